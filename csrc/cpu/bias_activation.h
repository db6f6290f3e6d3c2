#pragma once

#include "../bias_activation.h"
#include "isa.h"

namespace bertkernels {
// Both return false where there is no memory for their scratch.
#define BERTKERNELS_DECLARE(ISA)                                             \
  namespace ISA {                                                            \
  bool bias_activation_forward(const BiasActivationForward&, int threads);   \
  bool bias_activation_backward(const BiasActivationBackward&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
