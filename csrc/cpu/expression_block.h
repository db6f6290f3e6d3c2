#pragma once

#include "../expression_block.h"
#include "isa.h"

namespace bertkernels {
// Returns false where there is no memory for its scratch.
#define BERTKERNELS_DECLARE(ISA)                                      \
  namespace ISA {                                                     \
  bool expression_block_forward(const ExpressionBlock&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
