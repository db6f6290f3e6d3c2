// Arguments of glu. Shapes: left, gate and out [M, C], biases [C].
#pragma once

#include <cstdint>

#include "dtype.h"
#include "operand.h"

namespace bertkernels {

struct GluShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  DType dtype = DType::kFloat32;
};

struct GluForward {
  GluShape shape;
  Matrix left, gate;
  const void* left_bias = nullptr;  // may be null, as the other
  const void* gate_bias = nullptr;
  Matrix out;  // may be left or gate
};

struct GluBackward {
  GluShape shape;
  Matrix grad, out, gate;
  const void* gate_bias = nullptr;  // may be null
  Matrix d_left, d_gate;            // outputs; null where not wanted; each may be one of the inputs
  void* d_left_bias = nullptr;
  void* d_gate_bias = nullptr;
};

}  // namespace bertkernels
