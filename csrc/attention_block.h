// Arguments of attention_block. Shapes: x and out [B, T, C]; query, key and value C → H·D, output H·D → C. fp32.
#pragma once

#include <cstdint>

#include "feed_forward_block.h"
#include "operand.h"
#include "sequences.h"

namespace bertkernels {

struct AttentionBlock {
  Sequences sequences;
  std::int64_t channels = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;
  double scale = 1;  // of the scores
  Matrix x;         // [B·T, C]
  Matrix key_bias;  // [B, T], added to the scores of a key; data may be null
  LinearWeight query, key, value, output;
  Norm norm;
  Matrix out;
  Sgemm gemm = nullptr;
};

}  // namespace bertkernels
