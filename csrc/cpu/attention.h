#pragma once

#include "../attention.h"
#include "isa.h"

namespace bertkernels {
// Both return false where there is no memory for their scratch.
#define BERTKERNELS_DECLARE(ISA)                                \
  namespace ISA {                                               \
  bool attention_forward(const AttentionForward&, int threads);   \
  bool attention_backward(const AttentionBackward&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
