// Attention as a step of a whole sub-layer, on one batch of sequences. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "attention.h"
#include "batches.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// out = attention's heads side by side, from query, key and value [n, H·D]; rows of out are `out_stride` apart. It may
// be query's own memory: a head's queries are read before the same place is written. `call` has heads, width, scale and
// key_bias; lse [n, H]. False where there is no memory.
template <typename Call>
bool attend(const Call& call, const Batch& b, float* query, float* key, float* value, float* out,
            std::int64_t out_stride, float* lse, int threads) {
  const std::int64_t width = call.heads * call.width;
  AttentionForward step;
  step.shape.sequences = b.layout;
  step.shape.heads = call.heads;
  step.shape.width = call.width;
  step.shape.scale = call.scale;
  step.query = rows_of(b, query, width, call.width);
  step.key = rows_of(b, key, width, call.width);
  step.value = rows_of(b, value, width, call.width);
  if (call.key_bias.data != nullptr) {
    step.key_bias = {static_cast<float*>(call.key_bias.data) + b.first * call.key_bias.stride, call.key_bias.stride};
  }
  step.out = rows_of(b, out, out_stride, call.width);
  step.lse = lse;
  return attention_forward(step, threads);
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
