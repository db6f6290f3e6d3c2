// Arguments of bias_activation. Shapes: x and out [M, C], bias [C].
#pragma once

#include <cstdint>

#include "dtype.h"
#include "operand.h"

namespace bertkernels {

// Numbers as in bertkernels/ops/bias_activation.py.
enum class Activation : int {
  kNone = 0,
  kGelu = 1,
  kGeluTanh = 2,
  kRelu = 3,
  kTanh = 4,
  kSigmoid = 5,
  kLeakyRelu = 6,
  kElu = 7,
  kSwish = 8
};

struct BiasActivationShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  Activation activation = Activation::kNone;
  DType dtype = DType::kFloat32;
};

struct BiasActivationForward {
  BiasActivationShape shape;
  Matrix x;
  const void* bias = nullptr;  // may be null
  Matrix out;                  // may be x
};

struct BiasActivationBackward {
  BiasActivationShape shape;
  Matrix grad, x;
  const void* bias = nullptr;  // may be null
  Matrix d_x;                  // outputs; null where not wanted; d_x may be grad
  void* d_bias = nullptr;
};

}  // namespace bertkernels
