// Arguments of feed_forward_block where it is differentiated. Shapes: x, out, grad [M, C]; the rest as said, contiguous,
// fp32.
#pragma once

#include <cstdint>

#include "feed_forward_block.h"
#include "residual_norm.h"

namespace bertkernels {

// What the forward pass leaves to the backward pass.
struct FeedForwardKept {
  float* product = nullptr;  // [M, F], of the up layer, without its bias
  float* result = nullptr;   // [M, C], of the down layer
  float* moments = nullptr;  // [M, 2], of the norm
};

struct FeedForwardTrainingForward {
  FeedForwardBlock block;
  Dropout dropout;
  FeedForwardKept kept;
};

// The gradients of the weights are left to the caller: products of d_product with x and of d_result with hidden.
struct FeedForwardTrainingBackward {
  FeedForwardBlock block;  // without out
  Dropout dropout;
  FeedForwardKept kept;
  Matrix grad;
  float* d_x = nullptr;        // [M, C]; may be null
  float* hidden = nullptr;     // [M, F]: activation(product + bias)
  float* d_product = nullptr;  // [M, F]
  float* d_result = nullptr;   // [M, C]
  float* d_up_bias = nullptr;  // [F]
  float* d_down_bias = nullptr;
  float* d_norm_weight = nullptr;
  float* d_norm_bias = nullptr;  // [C], these three
};

}  // namespace bertkernels
