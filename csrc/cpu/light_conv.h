#pragma once

#include "../light_conv.h"
#include "isa.h"

namespace bertkernels {
// Both return false where there is no memory for their scratch.
#define BERTKERNELS_DECLARE(ISA)                                   \
  namespace ISA {                                                  \
  bool light_conv_forward(const LightConvForward&, int threads);   \
  bool light_conv_backward(const LightConvBackward&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
