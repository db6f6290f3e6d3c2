#pragma once

#include "../residual_norm.h"
#include "isa.h"

namespace bertkernels {
// Both return false where there is no memory for their scratch.
#define BERTKERNELS_DECLARE(ISA)                                         \
  namespace ISA {                                                        \
  bool residual_norm_forward(const ResidualNormForward&, int threads);   \
  bool residual_norm_backward(const ResidualNormBackward&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
