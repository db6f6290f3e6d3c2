// Arguments of attention. Shapes: query, key, value and out [B, T, H, D], key_bias [B, T].
#pragma once

#include <cstdint>

#include "dtype.h"
#include "operand.h"
#include "sequences.h"

namespace bertkernels {

struct AttentionShape {
  Sequences sequences;
  std::int64_t heads = 0;
  std::int64_t width = 0;
  double scale = 1;
  std::int64_t dropped = 0;            // of each 65,536 probabilities, how many dropout sets to zero
  const std::int64_t* seed = nullptr;  // of dropout; may be null where nothing is dropped
  DType dtype = DType::kFloat32;
};

struct AttentionForward {
  AttentionShape shape;
  Operand query, key, value;  // in
  Matrix key_bias;            // in; data may be null
  Operand out;
  // out: [tokens, H], contiguous, of the type that sums are kept in: ln Σ e^score, where scores count from the largest
  // key_bias of their sequence; 0 for a query that may attend nothing
  void* lse = nullptr;
};

struct AttentionBackward {
  AttentionShape shape;
  Operand grad, query, key, value, out;  // in
  Matrix key_bias;                       // in; data may be null
  const void* lse = nullptr;             // in
  Operand d_query, d_key, d_value;       // out
};

}  // namespace bertkernels
