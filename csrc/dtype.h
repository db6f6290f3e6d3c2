// The dtypes of the ops; numbers as in bertkernels/ops/extension.py.
#pragma once

namespace bertkernels {

enum class DType : int { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };

}  // namespace bertkernels
