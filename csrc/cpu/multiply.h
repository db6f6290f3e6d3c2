// Products of small matrices that lie in the near caches. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "integers.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// A block of sums is kRows × up to kMostVectors: as many as fit the registers beside the factors. In fp64, which is for
// checking, fewer will do.
constexpr int kRows = 4;
template <typename A>
constexpr int kMostVectors = 2;
#if defined(__AVX512F__) || defined(__aarch64__)
template <>
constexpr int kMostVectors<float> = 4;
#elif defined(__AVX2__)
template <>
constexpr int kMostVectors<float> = 3;
#endif

// How the left factor a lies in memory: its row m and step s at a[m · stride + s], or at a[s · stride + m].
enum class Left { kRowMajor, kColumnMajor };

template <Left kLeft, int N, typename A>
void multiply_strip(std::int64_t rows, std::int64_t steps, const A* a, std::int64_t a_stride, const A* b,
                    std::int64_t b_stride, bool add, A* c, std::int64_t c_stride) {
  constexpr int lanes = Vector<A>::lanes;
  for (std::int64_t m = 0; m < rows; m += kRows) {
    A* to = c + m * c_stride;
    typename Vector<A>::type sums[kRows][N] = {};
    const A* left = kLeft == Left::kRowMajor ? a + m * a_stride : a + m;
    const A* right = b;
    for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const A factor = kLeft == Left::kRowMajor ? left[r * a_stride] : left[r];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[r][n] += load(right + n * lanes) * factor;
      }
      left += kLeft == Left::kRowMajor ? 1 : a_stride;
      right += b_stride;
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        A* at = to + r * c_stride + n * lanes;
        store(at, add ? load(at) + sums[r][n] : sums[r][n]);
      }
    }
  }
}

// c[m, n] = Σ_s a(m, s) · b[s · b_stride + n], added to what c [rows, columns] holds if `add`. `rows` counts as a multiple
// of kRows and `columns` as one of the vector's lanes: the factors and c must have room for that. A sum runs over s in
// order and then joins c: products of many pieces round less than one long sum would, and results do not depend on how
// rows and columns are cut.
template <Left kLeft, typename A>
void multiply(std::int64_t rows, std::int64_t columns, std::int64_t steps, const A* a, std::int64_t a_stride,
              const A* b, std::int64_t b_stride, bool add, A* c, std::int64_t c_stride) {
  constexpr int lanes = Vector<A>::lanes;
  std::int64_t vectors = ceil_div(columns, lanes);
  std::int64_t strips = ceil_div(vectors, kMostVectors<A>);
  for (; strips > 0; --strips) {
    const std::int64_t n = ceil_div(vectors, strips);  // strips of much the same width
    switch (n) {
      case 1:
        multiply_strip<kLeft, 1>(rows, steps, a, a_stride, b, b_stride, add, c, c_stride);
        break;
      case 2:
        multiply_strip<kLeft, 2>(rows, steps, a, a_stride, b, b_stride, add, c, c_stride);
        break;
      case 3:
        if constexpr (kMostVectors<A> >= 3) {
          multiply_strip<kLeft, 3>(rows, steps, a, a_stride, b, b_stride, add, c, c_stride);
        }
        break;
      default:
        if constexpr (kMostVectors<A> >= 4) {
          multiply_strip<kLeft, 4>(rows, steps, a, a_stride, b, b_stride, add, c, c_stride);
        }
    }
    b += n * lanes;
    c += n * lanes;
    vectors -= n;
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
