// The end of a sub-layer on one tile of tokens. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "../feed_forward_block.h"
#include "residual_norm.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// out [rows, C] = LayerNorm(x + dropout(result)); result is contiguous, moments [rows, 2]. False where there is no memory.
inline bool closing_norm(const Norm& norm, std::int64_t rows, std::int64_t channels, float* result, const float* x,
                         std::int64_t x_stride, float* out, std::int64_t out_stride, float* moments, int threads,
                         const Dropout& dropout = {}) {
  ResidualNormForward step;
  step.shape = {rows, channels, DType::kFloat32};
  step.dropout = dropout;
  step.eps = norm.eps;
  step.x = {result, channels};
  step.residual = {const_cast<float*>(x), x_stride};
  step.weight = norm.weight;
  step.bias = norm.bias;
  step.out = {out, out_stride};
  step.moments = moments;
  return residual_norm_forward(step, threads);
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
