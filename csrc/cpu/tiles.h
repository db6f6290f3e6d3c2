// How the rows of a sub-layer are shared among threads where each thread takes a tile through all of its steps, so that
// each step finds in the second cache what the step before left there. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "integers.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kMostTokens = 384;   // of a tile; products of fewer rows read the weights more often
constexpr std::int64_t kLeastTokens = 192;  // of a tile
constexpr std::int64_t kUnit = 16;          // tiles are multiples of it

// Equally many tiles for each thread; or, where there are too few rows for that, one tile, on whose steps all threads
// work together. That one must not lie in a parallel region, where BLAS would take it for one thread's.
struct Tiles {
  std::int64_t rows;
  std::int64_t count;

  Tiles(std::int64_t all, int threads) {
    const std::int64_t rounds = ceil_div(all, threads * kMostTokens);
    rows = all < threads * kLeastTokens ? all : ceil_div(ceil_div(all, threads * rounds), kUnit) * kUnit;
    count = ceil_div(all, rows);
  }
};

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
