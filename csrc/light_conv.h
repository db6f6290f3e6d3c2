// Arguments of light_conv, shared by the CPU and CUDA code. Shapes: values and out [B, T, H, D], logits [B, T, H, K].
#pragma once

#include <cstdint>

#include "dtype.h"
#include "operand.h"
#include "sequences.h"

namespace bertkernels {

struct LightConvShape {
  Sequences sequences;
  std::int64_t heads = 0;
  std::int64_t width = 0;
  std::int64_t taps = 0;
  bool softmax = true;
  bool causal = false;
  DType dtype = DType::kFloat32;
};

struct LightConvForward {
  LightConvShape shape;
  Operand values, logits;  // in
  Operand out;
};

struct LightConvBackward {
  LightConvShape shape;
  Operand grad, values, logits;  // in
  Operand d_values, d_logits;    // out
};

}  // namespace bertkernels
