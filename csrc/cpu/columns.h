// Turns short rows (a token's K taps) into columns and back, so that what is done to each of them is done to a whole vector
// of rows at once. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

typedef float Four __attribute__((vector_size(16)));

template <typename T>
inline Four load_four(const T* from) {
  float values[4];
  for (int i = 0; i < 4; ++i) values[i] = widen(from[i]);
  Four four;
  __builtin_memcpy(&four, values, sizeof(four));
  return four;
}

template <typename T>
inline void store_four(T* to, Four four) {
  for (int i = 0; i < 4; ++i) narrow(four[i], to + i);
}

inline void store_four(float* to, Four four) { __builtin_memcpy(to, &four, sizeof(four)); }

// Rows become columns: rows[i][j] and rows[j][i] change places.
inline void transpose_four(Four* rows) {
  typedef std::int32_t Order __attribute__((vector_size(16)));
  const auto pick = [](Four a, Four b, Order order) {
#if defined(__clang__)
    Four result;
    for (int i = 0; i < 4; ++i) result[i] = order[i] < 4 ? a[order[i]] : b[order[i] - 4];
    return result;
#else
    return __builtin_shuffle(a, b, order);
#endif
  };
  const Order low{0, 4, 1, 5}, high{2, 6, 3, 7}, left{0, 1, 4, 5}, right{2, 3, 6, 7};
  const Four a = pick(rows[0], rows[1], low), b = pick(rows[2], rows[3], low);
  const Four c = pick(rows[0], rows[1], high), d = pick(rows[2], rows[3], high);
  rows[0] = pick(a, b, left);
  rows[1] = pick(a, b, right);
  rows[2] = pick(c, d, left);
  rows[3] = pick(c, d, right);
}

// to[j · columns + i] = from[i · stride + j] for `count` rows of `width` numbers, widened.
template <typename T, typename A>
inline void rows_to_columns(const T* from, std::int64_t stride, std::int64_t count, std::int64_t width, A* to,
                            std::int64_t columns) {
  std::int64_t i = 0;
  if constexpr (sizeof(A) == sizeof(float)) {
    for (; i + 4 <= count; i += 4) {
      const T* rows = from + i * stride;
      std::int64_t j = 0;
      for (; j + 4 <= width; j += 4) {
        Four block[4];
        for (int r = 0; r < 4; ++r) block[r] = load_four(rows + r * stride + j);
        transpose_four(block);
        for (int r = 0; r < 4; ++r) store_four(to + (j + r) * columns + i, block[r]);
      }
      for (; j < width; ++j) {
        for (int r = 0; r < 4; ++r) to[j * columns + i + r] = widen(rows[r * stride + j]);
      }
    }
  }
  for (; i < count; ++i) {
    for (std::int64_t j = 0; j < width; ++j) to[j * columns + i] = widen(from[i * stride + j]);
  }
}

// to[i · stride + j] = from[j · columns + i] for `count` rows of `width` numbers, rounded.
template <typename T, typename A>
inline void columns_to_rows(const A* from, std::int64_t columns, std::int64_t count, std::int64_t width, T* to,
                            std::int64_t stride) {
  std::int64_t i = 0;
  if constexpr (sizeof(A) == sizeof(float)) {
    for (; i + 4 <= count; i += 4) {
      T* rows = to + i * stride;
      std::int64_t j = 0;
      for (; j + 4 <= width; j += 4) {
        Four block[4];
        for (int r = 0; r < 4; ++r) block[r] = load_four(from + (j + r) * columns + i);
        transpose_four(block);
        for (int r = 0; r < 4; ++r) store_four(rows + r * stride + j, block[r]);
      }
      for (; j < width; ++j) {
        for (int r = 0; r < 4; ++r) narrow(from[j * columns + i + r], rows + r * stride + j);
      }
    }
  }
  for (; i < count; ++i) {
    for (std::int64_t j = 0; j < width; ++j) narrow(from[j * columns + i], to + i * stride + j);
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
