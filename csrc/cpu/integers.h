// Arithmetic on sizes (the functions of <algorithm> must not be used here, see isa.h). Included by
// per-instruction-set sources.
#pragma once

#include <cstdint>

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
inline std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
