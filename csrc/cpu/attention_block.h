#pragma once

#include "../attention_block.h"
#include "isa.h"

namespace bertkernels {
// Returns false where there is no memory for its scratch.
#define BERTKERNELS_DECLARE(ISA)                                    \
  namespace ISA {                                                   \
  bool attention_block_forward(const AttentionBlock&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
