#pragma once

#include "../glu.h"
#include "isa.h"

namespace bertkernels {
// Both return false where there is no memory for their scratch.
#define BERTKERNELS_DECLARE(ISA)                       \
  namespace ISA {                                      \
  bool glu_forward(const GluForward&, int threads);    \
  bool glu_backward(const GluBackward&, int threads);  \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
