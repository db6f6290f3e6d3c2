// Arguments of depthwise_conv. Shapes: x and out [B, T, C], weight [C, K], bias [C].
#pragma once

#include <cstdint>

#include "dtype.h"
#include "operand.h"
#include "sequences.h"

namespace bertkernels {

struct DepthwiseConvShape {
  Sequences sequences;
  std::int64_t channels = 0;
  std::int64_t taps = 0;
  bool causal = false;
  DType dtype = DType::kFloat32;
};

struct DepthwiseConvForward {
  DepthwiseConvShape shape;
  Operand x;
  Operand weight;              // its rows are channels: the stride between them is in `token`
  const void* bias = nullptr;  // may be null
  Operand out;
};

struct DepthwiseConvBackward {
  DepthwiseConvShape shape;
  Operand grad, x, weight;
  Operand d_x;               // outputs; null where not wanted
  void* d_weight = nullptr;  // [C, K], contiguous
  void* d_bias = nullptr;    // [C]
};

}  // namespace bertkernels
