// Rows in pieces of whole vectors. Where a piece is not of the type it is computed in, or not whole, it goes through a
// buffer of that type; so one loop over whole vectors serves all. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "../operand.h"
#include "integers.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kPiece = 64;  // elements computed together

template <typename T>
inline T* at(const Matrix& x, std::int64_t row, std::int64_t column) {
  return static_cast<T*>(x.data) + row * x.stride + column;
}

// kPiece elements that begin with the `count` ones at `from`: themselves, or a copy in `buffer` filled up with zeros.
template <typename T, typename A>
inline const A* read_piece(const T* from, std::int64_t count, A* buffer) {
  if constexpr (sizeof(T) == sizeof(A)) {
    if (count == kPiece) return from;
  }
  widen_row(from, buffer, count);
  for (std::int64_t i = count; i < kPiece; ++i) buffer[i] = A(0);
  return buffer;
}

// Where to compute a piece that belongs at `to`, and how to bring it there.
template <typename T, typename A>
inline A* begin_piece(T* to, std::int64_t count, A* buffer) {
  if constexpr (sizeof(T) == sizeof(A)) {
    if (count == kPiece) return to;
  }
  return buffer;
}
template <typename T, typename A>
inline void end_piece(const A* piece, std::int64_t count, T* to) {
  if constexpr (sizeof(T) == sizeof(A)) {
    if (count == kPiece) return;
  }
  narrow_row(piece, to, count);
}

// The bias in the type of the computation, zeros where there is none and up to a multiple of kPiece.
template <typename T, typename A>
void load_bias(const void* bias, std::int64_t columns, A* to) {
  const std::int64_t padded = ceil_div(columns, kPiece) * kPiece;
  for (std::int64_t c = 0; c < padded; ++c) {
    to[c] = bias != nullptr && c < columns ? widen(static_cast<const T*>(bias)[c]) : A(0);
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
