#pragma once

#include "../depthwise_conv.h"
#include "isa.h"

namespace bertkernels {
// Both return false where there is no memory for their scratch.
#define BERTKERNELS_DECLARE(ISA)                                           \
  namespace ISA {                                                          \
  bool depthwise_conv_forward(const DepthwiseConvForward&, int threads);   \
  bool depthwise_conv_backward(const DepthwiseConvBackward&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
