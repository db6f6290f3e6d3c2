// Linear layers by the BLAS of csrc/blas.h. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "../blas.h"
#include "integers.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// Each row of y [rows, columns] becomes the bias, or zeros.
inline void fill_rows(const float* bias, std::int64_t rows, std::int64_t columns, float* y, std::int64_t stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) y[r * stride + c] = bias != nullptr ? bias[c] : 0;
  }
}

// The distance of rows as BLAS wants it: no less than a row, even where there is one only.
inline int leading(std::int64_t stride, std::int64_t rows, std::int64_t columns) {
  return static_cast<int>(rows > 1 ? stride : larger(stride, columns));
}

// y [rows, G·O] = x [rows, G·I] · weight, group by group; with `add` y += that.
inline void product(Sgemm gemm, const LinearWeight& weight, std::int64_t groups, std::int64_t rows, std::int64_t in,
                    std::int64_t out, const float* x, std::int64_t x_stride, bool add, float* y,
                    std::int64_t y_stride) {
  const int m = static_cast<int>(out), n = static_cast<int>(rows), k = static_cast<int>(in);
  const int lda = leading(weight.row, weight.out_by_in ? out : in, weight.out_by_in ? in : out);
  const int ldb = leading(x_stride, rows, groups * in), ldc = leading(y_stride, rows, groups * out);
  const float one = 1, beta = add ? 1.0f : 0.0f;
  for (std::int64_t g = 0; g < groups; ++g) {  // BLAS counts columns first: all three are transposed to it
    gemm(weight.out_by_in ? "T" : "N", "N", &m, &n, &k, &one, weight.data + g * weight.group, &lda, x + g * in, &ldb,
         &beta, y + g * out, &ldc);
  }
}

// y [rows, O] = x [rows, I] · weightᵀ + bias.
inline void linear(Sgemm gemm, const LinearWeight& weight, std::int64_t rows, std::int64_t in, std::int64_t out,
                   const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride) {
  if (weight.bias != nullptr) fill_rows(weight.bias, rows, out, y, y_stride);
  product(gemm, weight, 1, rows, in, out, x, x_stride, weight.bias != nullptr, y, y_stride);
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
