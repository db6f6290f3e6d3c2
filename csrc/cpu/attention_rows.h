// Rows of one head of one sequence, between memory of any dtype and strides and small matrices of the type that sums are
// kept in. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "../dtype.h"
#include "../operand.h"
#include "integers.h"
#include "multiply.h"
#include "transpose.h"
#include "vector.h"
#include "work.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// A dtype in memory. Reached through pointers, so that all else is compiled once a type of sums.
template <typename A>
struct Storage {
  std::int64_t bytes;
  void (*widen)(const void* from, A* to, std::int64_t n);
  void (*narrow)(const A* from, void* to, std::int64_t n);
};

template <typename T>
struct StorageOf {
  using A = typename Accumulate<T>::type;
  static void widen(const void* from, A* to, std::int64_t n) { widen_row(static_cast<const T*>(from), to, n); }
  static void narrow(const A* from, void* to, std::int64_t n) { narrow_row(from, static_cast<T*>(to), n); }
  static constexpr Storage<A> value{sizeof(T), widen, narrow};
};

// Matrices have rows of whole vectors: columns past the width are zeros.
template <typename A>
inline std::int64_t padded_width(std::int64_t width) {
  return ceil_div(width, Vector<A>::lanes) * Vector<A>::lanes;
}

// The rows of one head; row 0 is the sequence's first token. Its functions are called in many places and are not worth a
// copy in each.
template <typename A>
class HeadRows {
 public:
  HeadRows(const Storage<A>& storage, const Operand& x, const Span& span, std::int64_t head, std::int64_t width)
      : storage_(storage),
        first_(static_cast<char*>(x.data) +
               (span.batch * x.batch + span.first * x.token + head * x.head) * storage.bytes),
        step_(x.token * storage.bytes),
        width_(width) {}

  // Rows first, …, first + count - 1 times `factor`, then rows of zeros up to `rows`.
  __attribute__((noinline)) void read(std::int64_t first, std::int64_t count, std::int64_t rows, A factor, A* to) const {
    const std::int64_t padded = padded_width<A>(width_);
    for (std::int64_t i = 0; i < count; ++i, to += padded) {
      const char* from = first_ + (first + i) * step_;
      storage_.widen(from, to, width_);
      // the next head's row, which is wanted soon, mostly lies behind this one's
      const char* next = from + width_ * storage_.bytes;
      for (std::int64_t b = 0; b < width_ * storage_.bytes; b += 64) __builtin_prefetch(next + b), __builtin_prefetch(from + 8*step_ + b);
      for (std::int64_t d = width_; d < padded; ++d) to[d] = A(0);
      if (factor != A(1)) {
        for (std::int64_t d = 0; d < padded; d += Vector<A>::lanes) store(to + d, load(to + d) * factor);
      }
    }
    for (std::int64_t i = 0; i < (rows - count) * padded; ++i) to[i] = A(0);
  }

  // Row `row` = from · factor. Changes `from`.
  __attribute__((noinline)) void write(std::int64_t row, A* from, A factor) const {
    for (std::int64_t d = 0; d < width_; d += Vector<A>::lanes) store(from + d, load(from + d) * factor);
    storage_.narrow(from, first_ + row * step_, width_);
  }

 private:
  const Storage<A>& storage_;
  char* first_;
  std::int64_t step_;
  std::int64_t width_;
};

// Zeros in the rows of all heads that are padding of this sequence.
template <typename A>
void clear_padding(const Storage<A>& storage, const Operand& x, const Sequences& sequences, std::int64_t sequence,
                   std::int64_t heads, std::int64_t width) {
  if (sequences.cu_seqlens != nullptr) return;
  for (std::int64_t t = span_of(sequences, sequence).count; t < sequences.tokens; ++t) {
    for (std::int64_t head = 0; head < heads; ++head) {
      char* row = static_cast<char*>(x.data) + (sequence * x.batch + t * x.token + head * x.head) * storage.bytes;
      for (std::int64_t i = 0; i < width * storage.bytes; ++i) row[i] = 0;
    }
  }
}

// Queries are handled in tiles: one lane each, as many vectors as fit the registers.
template <typename A>
struct QueryTiles {
  // whole vectors, and whole blocks of rows of products
  static constexpr std::int64_t unit = Vector<A>::lanes > kRows ? Vector<A>::lanes : kRows;
  static constexpr std::int64_t most = kMostVectors<A> * Vector<A>::lanes;  // queries a tile

  std::int64_t padded;  // queries, those made up included
  std::int64_t width;   // queries a tile
  std::int64_t count;

  explicit QueryTiles(std::int64_t queries) {
    const std::int64_t units = ceil_div(queries, unit);
    padded = units * unit;
    width = units > 0 ? ceil_div(units, ceil_div(padded, most)) * unit : unit;
    count = ceil_div(padded, width);
  }
  std::int64_t columns(std::int64_t tile) const { return smaller(width, padded - tile * width); }
};

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
