// Transposes matrices by whole vectors. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// The lanes of a and b in turns (a0 b0 a1 b1 …), from lane `kFrom` of both on.
template <int kFrom, typename A>
inline typename Vector<A>::type interleave(typename Vector<A>::type a, typename Vector<A>::type b) {
  constexpr int lanes = Vector<A>::lanes;
#if defined(__clang__)  // makes one shuffle of this
  typename Vector<A>::type result;
  for (int i = 0; i < lanes; ++i) result[i] = i % 2 == 0 ? a[kFrom + i / 2] : b[kFrom + i / 2];
  return result;
#else
  typename Vector<A>::integer from;
  for (int i = 0; i < lanes; ++i) from[i] = i % 2 * lanes + kFrom + i / 2;
  return __builtin_shuffle(a, b, from);
#endif
}

// to[i, j] = from[j, i] for as many rows and columns as a vector has lanes. Interleaving the first half of the rows with
// the second moves one bit of the row number into the column number; after all bits have moved, it is transposed.
template <typename A>
inline void transpose_block(const A* from, std::int64_t from_stride, A* to, std::int64_t to_stride) {
  constexpr int lanes = Vector<A>::lanes;
  typename Vector<A>::type rows[lanes], mixed[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) rows[i] = load(from + i * from_stride);
#pragma GCC unroll 4
  for (int bit = 1; bit < lanes; bit *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      mixed[2 * i] = interleave<0, A>(rows[i], rows[i + lanes / 2]);
      mixed[2 * i + 1] = interleave<lanes / 2, A>(rows[i], rows[i + lanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) rows[i] = mixed[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) store(to + i * to_stride, rows[i]);
}

// The sums of all lanes of as many vectors as a vector has lanes, which lie one after the other. Adding the halves of two
// interleaved vectors leaves one vector, and moves one bit of the vectors' numbers into the number of the lane.
template <typename A>
inline typename Vector<A>::type add_lanes_of_all(const A* from) {
  constexpr int lanes = Vector<A>::lanes;
  typename Vector<A>::type parts[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) parts[i] = load(from + i * lanes);
#pragma GCC unroll 4
  for (int n = lanes / 2; n > 0; n /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      parts[i] = interleave<0, A>(parts[i], parts[i + n]) + interleave<lanes / 2, A>(parts[i], parts[i + n]);
    }
  }
  return parts[0];
}

// to [columns, rows] = from [rows, columns] transposed; both sizes are multiples of the vector's lanes.
template <typename A>
__attribute__((noinline)) void transpose(const A* from, std::int64_t rows, std::int64_t columns,
                                         std::int64_t from_stride, A* to, std::int64_t to_stride) {
  constexpr int lanes = Vector<A>::lanes;
  for (std::int64_t i = 0; i < rows; i += lanes) {
    for (std::int64_t j = 0; j < columns; j += lanes) {
      transpose_block(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
    }
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
