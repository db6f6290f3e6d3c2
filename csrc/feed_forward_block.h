// Arguments of feed_forward_block. Shapes: x and out [M, C]; up to F channels, down to C, in G groups; norm [C]. fp32.
#pragma once

#include <cstdint>

#include "bias_activation.h"
#include "blas.h"
#include "operand.h"

namespace bertkernels {

// LayerNorm's weight, bias and eps.
struct Norm {
  const float* weight = nullptr;
  const float* bias = nullptr;
  double eps = 0;
};

struct FeedForwardBlock {
  std::int64_t rows = 0;
  std::int64_t channels = 0;
  std::int64_t hidden = 0;
  std::int64_t groups = 1;
  Activation activation = Activation::kGelu;
  Matrix x;
  LinearWeight up, down;
  Norm norm;
  Matrix out;
  Sgemm gemm = nullptr;
};

}  // namespace bertkernels
