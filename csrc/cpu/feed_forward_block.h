#pragma once

#include "../feed_forward_block.h"
#include "isa.h"

namespace bertkernels {
// Returns false where there is no memory for its scratch.
#define BERTKERNELS_DECLARE(ISA)                                        \
  namespace ISA {                                                       \
  bool feed_forward_block_forward(const FeedForwardBlock&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
