// Scratch memory. Included by per-instruction-set sources.
#pragma once

#include <stdlib.h>

#include <cstdint>

#include "integers.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// Room for `count` elements, to be given back with free(); null where there is none. It begins on a cache line, so that
// whole vectors in it do not straddle two.
template <typename A>
inline A* allocate(std::int64_t count) {
  return static_cast<A*>(aligned_alloc(64, ceil_div(count * sizeof(A), 64) * 64));
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
