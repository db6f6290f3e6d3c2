// Linear layers by the BLAS of csrc/blas.h, shared among threads. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "../blas.h"
#include "integers.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

inline LinearWeight without_bias(LinearWeight layer) {
  layer.bias = nullptr;
  return layer;
}

// The layer the other way round: from gradients of its output to those of its input.
inline LinearWeight turned(LinearWeight layer) {
  layer.out_by_in = !layer.out_by_in;
  return without_bias(layer);
}

// y [rows, G·O] = x [rows, G·I] · weight + bias, group by group.
struct Product {
  LinearWeight weight;
  std::int64_t groups, in, out;  // channels of a group
  const float* x;
  std::int64_t x_stride;
  float* y;
  std::int64_t y_stride;
};

// Rows and columns (of all groups together) of what one call of BLAS gives.
struct Piece {
  std::int64_t row, rows, column, columns;
};

constexpr std::int64_t kMostRows = 256;  // of a piece, so that what it leaves stays in a second cache
constexpr std::int64_t kLeastRows = 96;  // products of fewer rows read the weights too often
constexpr std::int64_t kLeastColumns = 32;
constexpr std::int64_t kRowUnit = 8, kColumnUnit = 16;  // pieces are multiples of them

// Into how many blocks of rows, and those into how many strips of columns, `count` products alike are cut. Rows are
// rather cut than columns, but where they are few.
struct Cut {
  std::int64_t blocks, strips;
  Cut(std::int64_t rows, std::int64_t out, std::int64_t count, int threads) : blocks(1), strips(1) {
    if (rows >= threads * kLeastRows) {
      blocks = threads * ceil_div(rows, threads * kMostRows);
      return;
    }
    blocks = larger(1, rows / kLeastRows);
    const std::int64_t wanted = ceil_div(threads, blocks * count);
    strips = smaller(wanted, larger(1, out / kLeastColumns));
    if (strips < wanted) blocks = smaller(ceil_div(rows, kRowUnit), blocks * ceil_div(wanted, strips));
  }
};

// Where part `i` of `parts` of n things begins, in whole units.
inline std::int64_t part_begin(std::int64_t n, std::int64_t unit, std::int64_t i, std::int64_t parts) {
  return smaller(n, ceil_div(n, unit) * i / parts * unit);
}

// Each row of the piece becomes the bias.
inline void fill_rows(const Product& p, const Piece& piece) {
  for (std::int64_t r = piece.row; r < piece.row + piece.rows; ++r) {
    float* const y = p.y + r * p.y_stride + piece.column;
    for (std::int64_t c = 0; c < piece.columns; ++c) y[c] = p.weight.bias[piece.column + c];
  }
}

// The distance of rows as BLAS wants it: no less than a row, even where there is one only.
inline int leading(std::int64_t stride, std::int64_t rows, std::int64_t columns) {
  return static_cast<int>(rows > 1 ? stride : larger(stride, columns));
}

// y = beta · y + x · weight, for a piece of one group; the bias is left out.
inline void call_blas(Sgemm gemm, const Product& p, const Piece& piece, float beta) {
  const std::int64_t group = piece.column / p.out, column = piece.column % p.out;
  const LinearWeight& weight = p.weight;
  const int m = static_cast<int>(piece.columns), n = static_cast<int>(piece.rows), k = static_cast<int>(p.in);
  const int lda = leading(weight.row, weight.out_by_in ? p.out : p.in, weight.out_by_in ? p.in : p.out);
  const int ldb = leading(p.x_stride, piece.rows, p.groups * p.in);
  const int ldc = leading(p.y_stride, piece.rows, p.groups * p.out);
  const float one = 1;
  // BLAS counts columns first: all three are transposed to it
  gemm(weight.out_by_in ? "T" : "N", "N", &m, &n, &k, &one,
       weight.data + group * weight.group + column * (weight.out_by_in ? weight.row : 1), &lda,
       p.x + piece.row * p.x_stride + group * p.in, &ldb, &beta, p.y + piece.row * p.y_stride + piece.column, &ldc);
}

inline void multiply_piece(Sgemm gemm, const Product& p, const Piece& piece) {
  if (p.weight.bias != nullptr) fill_rows(p, piece);
  call_blas(gemm, p, piece, p.weight.bias != nullptr ? 1.0f : 0.0f);
}

// All rows of a product on this thread; outside of a parallel region on BLAS's own threads.
inline void multiply_here(Sgemm gemm, const Product& p, std::int64_t rows) {
  for (std::int64_t g = 0; g < p.groups; ++g) multiply_piece(gemm, p, {0, rows, g * p.out, p.out});
}

// The same, added to what y holds.
inline void multiply_and_add_here(Sgemm gemm, const Product& p, std::int64_t rows) {
  for (std::int64_t g = 0; g < p.groups; ++g) call_blas(gemm, p, {0, rows, g * p.out, p.out}, 1.0f);
}

// Calls run(product's number, piece) for products of the same sizes, piece by piece, on all threads.
template <typename Run>
void for_each_piece(const Product* products, int count, std::int64_t rows, int threads, Run run) {
  const std::int64_t out = products[0].out, layers = count * products[0].groups;
  const Cut cut(rows, out, layers, threads);
  const std::int64_t tasks = cut.blocks * layers * cut.strips;
#pragma omp parallel for schedule(static) num_threads(static_cast<int>(smaller(tasks, threads)))
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t block = task / (layers * cut.strips), layer = task / cut.strips % layers;
    const std::int64_t strip = task % cut.strips, group = layer % products[0].groups;
    const std::int64_t row = part_begin(rows, kRowUnit, block, cut.blocks);
    const std::int64_t column = part_begin(out, kColumnUnit, strip, cut.strips);
    const Piece piece{row, part_begin(rows, kRowUnit, block + 1, cut.blocks) - row, group * out + column,
                      part_begin(out, kColumnUnit, strip + 1, cut.strips) - column};
    if (piece.rows > 0 && piece.columns > 0) run(layer / products[0].groups, piece);
  }
}

// The products themselves; then(product's number, piece) follows each piece on its thread.
template <typename Then>
void multiply(Sgemm gemm, const Product* products, int count, std::int64_t rows, int threads, Then then) {
  for_each_piece(products, count, rows, threads, [&](std::int64_t number, const Piece& piece) {
    multiply_piece(gemm, products[number], piece);
    then(number, piece);
  });
}

inline void multiply(Sgemm gemm, const Product& product, std::int64_t rows, int threads) {
  multiply(gemm, &product, 1, rows, threads, [](std::int64_t, const Piece&) {});
}

// gradient [out, in] = beta · gradient + d_yᵀ · x, summed over rows: that of a weight from x [rows, in] to what d_y
// [rows, out] is the gradient of.
inline void add_weight_gradient(Sgemm gemm, std::int64_t rows, const float* d_y, std::int64_t d_y_stride,
                                std::int64_t out, const float* x, std::int64_t x_stride, std::int64_t in, float beta,
                                float* gradient, int threads) {
  const std::int64_t parts = smaller(threads, ceil_div(out, kColumnUnit));
  const int m = static_cast<int>(in), k = static_cast<int>(rows);
  const int lda = leading(x_stride, rows, in), ldb = leading(d_y_stride, rows, out);
  const float one = 1;
#pragma omp parallel for schedule(static) num_threads(static_cast<int>(parts))
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::int64_t first = part_begin(out, kColumnUnit, part, parts);
    const int n = static_cast<int>(part_begin(out, kColumnUnit, part + 1, parts) - first);
    if (n == 0) continue;
    gemm("N", "T", &m, &n, &k, &one, x, &lda, d_y + first, &ldb, &beta, gradient + first * in, &m);
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
