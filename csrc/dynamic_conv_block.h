// Arguments of dynamic_conv_block. Shapes: x, out and grad [B, T, C] as rows [M, C]; value and gate C → H·D, depthwise
// [H·D, S], pointwise H·D → H·D, kernel H·D → H·K, output H·D → C. fp32.
#pragma once

#include <cstdint>

#include "blas.h"
#include "feed_forward_block.h"
#include "operand.h"
#include "residual_norm.h"
#include "sequences.h"

namespace bertkernels {

// What the forward pass leaves to the backward pass, all contiguous.
struct DynamicConvKept {
  float* gated = nullptr;    // [M, H·D]
  float* gate = nullptr;     // [M, H·D], the gate's product without its bias
  float* logits = nullptr;   // [M, H·K]
  float* result = nullptr;   // [M, C], of the output layer
  float* moments = nullptr;  // [M, 2], of the norm
};

struct DynamicConvBlock {
  Sequences sequences;  // without lengths
  std::int64_t channels = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;
  std::int64_t taps = 0;  // K
  std::int64_t span = 0;  // S
  Matrix x;
  LinearWeight value, gate, kernel, output;
  LinearWeight pointwise;  // data is null where `kernel` is the product of both, as it must be where kept is there
  Matrix depthwise;
  Norm norm;
  Dropout dropout;
  Matrix out;
  Sgemm gemm = nullptr;
  DynamicConvKept kept;  // null where no backward pass will follow
};

struct DynamicConvBlockBackward {
  DynamicConvBlock block;  // without out
  Matrix grad;
  // Outputs, contiguous; null where not wanted.
  float* d_x = nullptr;            // [M, C]
  float* d_projections = nullptr;  // [2·H·D, C], of the weights of value and gate
  float* d_kernel = nullptr;       // [H·K, H·D]
  float* d_output = nullptr;       // [C, H·D]
  // Always wanted: gradients of the biases of value, gate, kernel and output, of the norm's weight and bias, and of
  // depthwise, one after the other: [2·H·D + H·K + 3·C + H·D·S].
  float* d_vectors = nullptr;
};

}  // namespace bertkernels
