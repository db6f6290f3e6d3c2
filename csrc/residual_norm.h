// Arguments of residual_norm. Shapes: x, residual, out, grad [M, C], weight and bias [C]; moments
// [M, 2], mean and 1 / √(variance + eps) of each row, in fp32, or fp64 for fp64.
#pragma once

#include <cstdint>

#include "dtype.h"
#include "operand.h"

namespace bertkernels {

struct ResidualNormShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  DType dtype = DType::kFloat32;
};

// Element c of row m has the index (first_row + m)·(C rounded up to a multiple of 4) + c. It is dropped where its random bits are below
// `threshold`, and else multiplied by `scale`.
struct Dropout {
  const std::int64_t* seed = nullptr;  // null: nothing is dropped
  std::uint32_t threshold = 0;
  double scale = 1;
  std::int64_t first_row = 0;  // where the rows are part of more
};

struct ResidualNormForward {
  ResidualNormShape shape;
  Dropout dropout;
  double eps = 0;
  Matrix x, residual;
  const void* weight = nullptr;
  const void* bias = nullptr;
  Matrix out;
  void* moments = nullptr;
};

struct ResidualNormBackward {
  ResidualNormShape shape;
  Dropout dropout;
  Matrix grad, x, residual;
  const void* weight = nullptr;
  const void* moments = nullptr;
  Matrix d_x, d_residual;  // outputs; null where not wanted
  void* d_weight = nullptr;
  void* d_bias = nullptr;
};

}  // namespace bertkernels
