#pragma once

#include "../dynamic_conv_block.h"
#include "isa.h"

namespace bertkernels {
// Both return false where there is no memory for their scratch.
#define BERTKERNELS_DECLARE(ISA)                                                     \
  namespace ISA {                                                                    \
  bool dynamic_conv_block_forward(const DynamicConvBlock&, int threads);             \
  bool dynamic_conv_block_backward(const DynamicConvBlockBackward&, int threads);    \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
