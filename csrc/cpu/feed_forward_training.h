#pragma once

#include "../feed_forward_training.h"
#include "isa.h"

namespace bertkernels {
// Both return false where there is no memory for their scratch.
#define BERTKERNELS_DECLARE(ISA)                                                        \
  namespace ISA {                                                                       \
  bool feed_forward_training_forward(const FeedForwardTrainingForward&, int threads);   \
  bool feed_forward_training_backward(const FeedForwardTrainingBackward&, int threads); \
  }
BERTKERNELS_FOR_EACH_ISA(BERTKERNELS_DECLARE)
#undef BERTKERNELS_DECLARE
}  // namespace bertkernels
