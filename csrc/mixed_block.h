// Arguments of mixed_block. Shapes: x and out [B, T, C]; query, key, value, conv_value and pointwise C → H·D, depthwise
// [C, K], kernel H·D → H·K, output 2·H·D → C. fp32.
#pragma once

#include <cstdint>

#include "feed_forward_block.h"
#include "operand.h"
#include "sequences.h"

namespace bertkernels {

struct MixedBlock {
  Sequences sequences;
  std::int64_t channels = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;
  std::int64_t taps = 0;
  double scale = 1;  // of attention's scores
  Matrix x;         // [B·T, C]
  Matrix key_bias;  // [B, T], added to the scores of a key; data may be null
  LinearWeight query, key, value, conv_value, pointwise, kernel, output;
  Matrix depthwise;
  Norm norm;
  Matrix out;
  Sgemm gemm = nullptr;
};

}  // namespace bertkernels
