// mixed_block on the CPU: all threads take a few sequences at a time through it, step by step, so that what lies
// between stays in their second caches. Products are cut by rows, whatever sequences those belong to: sentences alone
// are too short for them. Only attention and the convolutions know where a sequence ends.
#include "mixed_block.h"

#include <stdlib.h>

#include "attention.h"
#include "closing_norm.h"
#include "depthwise_conv.h"
#include "light_conv.h"
#include "product.h"
#include "scratch.h"
#include "work.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kCacheFloats = 1 << 19;  // what a thread's share of the buffers may take: two megabytes

// Consecutive sequences that are computed together, of n tokens in all, and where their steps put their results.
struct Batch {
  std::int64_t first, sequences;  // numbers of the first sequence and of sequences
  std::int64_t row, n;            // the first token among all, and tokens
  Sequences layout;               // of these alone

  float *query, *key, *value, *conv_value;  // [n, H·D]
  float* context;                           // [n, 2·H·D]; before it, the pointwise product [n, H·D] in the same rows
  float* logits;                            // [n, H·K]
  float* span;                              // [n, C]; then the output before its norm
  float* small;                             // [n, max(H, 2)]: attention's lse, then the norm's moments

  static std::int64_t per_token(const MixedBlock& call) {
    return 6 * call.heads * call.width + call.heads * call.taps + call.channels + larger(call.heads, 2);
  }
  void place(const MixedBlock& call, float* memory) {
    const std::int64_t width = call.heads * call.width;
    float** const parts[] = {&query, &key, &value, &conv_value};
    for (float** part : parts) {
      *part = memory;
      memory += n * width;
    }
    context = memory;
    span = context + n * 2 * width;
    logits = span + n * call.channels;
    small = logits + n * call.heads * call.taps;
  }
};

Operand heads_of(const Batch& b, float* rows, std::int64_t stride, std::int64_t width) {
  return {rows, b.layout.cu_seqlens != nullptr ? 0 : b.layout.tokens * stride, stride, width};
}

bool spans(const MixedBlock& call, const float* x, const Batch& b, int threads) {
  const std::int64_t C = call.channels;
  DepthwiseConvForward step;
  step.shape = {b.layout, C, call.taps, false, DType::kFloat32};
  step.x = heads_of(b, const_cast<float*>(x), call.x.stride, 0);
  step.weight = {call.depthwise.data, 0, call.depthwise.stride, 0};
  step.out = heads_of(b, b.span, C, 0);
  return depthwise_conv_forward(step, threads);
}

bool attend(const MixedBlock& call, const Batch& b, int threads) {
  const std::int64_t width = call.heads * call.width;
  AttentionForward step;
  step.shape.sequences = b.layout;
  step.shape.heads = call.heads;
  step.shape.width = call.width;
  step.shape.scale = call.scale;
  step.query = heads_of(b, b.query, width, call.width);
  step.key = heads_of(b, b.key, width, call.width);
  step.value = heads_of(b, b.value, width, call.width);
  if (call.key_bias.data != nullptr) {
    step.key_bias = {static_cast<float*>(call.key_bias.data) + b.first * call.key_bias.stride, call.key_bias.stride};
  }
  step.out = heads_of(b, b.context, 2 * width, call.width);
  step.lse = b.small;
  return attention_forward(step, threads);
}

bool convolve(const MixedBlock& call, const Batch& b, int threads) {
  const std::int64_t width = call.heads * call.width;
  LightConvForward step;
  step.shape = {b.layout, call.heads, call.width, call.taps, true, false, DType::kFloat32};
  step.values = heads_of(b, b.conv_value, width, call.width);
  step.logits = heads_of(b, b.logits, call.heads * call.taps, call.taps);
  step.out = heads_of(b, b.context + width, 2 * width, call.width);
  return light_conv_forward(step, threads);
}

bool run_batch(const MixedBlock& call, const Batch& b, int threads) {
  const std::int64_t n = b.n, C = call.channels, width = call.heads * call.width, logits = call.heads * call.taps;
  const std::int64_t stride = call.x.stride;
  const float* x = static_cast<const float*>(call.x.data) + b.row * stride;
  float* out = static_cast<float*>(call.out.data) + b.row * call.out.stride;
  float* const pointwise = b.context;

  const Product projections[] = {{call.query, 1, C, width, x, stride, b.query, width},
                                 {call.key, 1, C, width, x, stride, b.key, width},
                                 {call.value, 1, C, width, x, stride, b.value, width},
                                 {call.conv_value, 1, C, width, x, stride, b.conv_value, width}};
  bool enough = spans(call, x, b, threads);
  multiply(call.gemm, projections, 4, n, threads, [](std::int64_t, const Piece&) {});
  const Product mix{call.pointwise, 1, C, width, b.span, C, pointwise, 2 * width};
  multiply(call.gemm, &mix, 1, n, threads, [&](std::int64_t, const Piece& piece) {
    for (std::int64_t r = piece.row; r < piece.row + piece.rows; ++r) {
      float* const to = pointwise + r * 2 * width + piece.column;
      const float* const by = b.query + r * width + piece.column;
      for (std::int64_t c = 0; c < piece.columns; ++c) to[c] *= by[c];
    }
  });
  multiply(call.gemm, {call.kernel, 1, width, logits, pointwise, 2 * width, b.logits, logits}, n, threads);
  enough = attend(call, b, threads) && convolve(call, b, threads) && enough;
  multiply(call.gemm, {call.output, 1, 2 * width, C, b.context, 2 * width, b.span, C}, n, threads);
  return closing_norm(call.norm, n, C, b.span, x, stride, out, call.out.stride, b.small, threads) && enough;
}

// The next batch after `sequence` sequences: as many as bring it nearest to `end` tokens from the first one of all.
Batch next_batch(const Sequences& sequences, std::int64_t sequence, std::int64_t row, std::int64_t end) {
  Batch b{};
  b.first = sequence;
  b.row = row;
  for (; sequence < sequences.batches; ++sequence) {
    const std::int64_t count = span_of(sequences, sequence).count;
    if (b.sequences > 0 && row + b.n + count / 2 > end) break;
    b.n += count;
    b.sequences += 1;
  }
  return b;
}

}  // namespace

bool mixed_block_forward(const MixedBlock& call, int threads) {
  const Sequences& sequences = call.sequences;
  const std::int64_t total = sequences.cu_seqlens != nullptr ? sequences.tokens : sequences.batches * sequences.tokens;
  const std::int64_t share = larger(kMostRows, kCacheFloats / Batch::per_token(call));
  const std::int64_t batches = ceil_div(total, share * threads);
  bool enough = true;
  float* scratch = nullptr;
  std::int64_t room = 0, sequence = 0, row = 0;
  std::int32_t* const starts = allocate<std::int32_t>(sequences.batches + 1);
  if (starts == nullptr) return false;
  for (std::int64_t i = 1; sequence < sequences.batches && enough; ++i) {
    Batch b = next_batch(sequences, sequence, row, total * smaller(i, batches) / batches);
    if (b.n > room) {
      free(scratch);
      room = b.n;
      scratch = allocate<float>(room * Batch::per_token(call));
    }
    if (b.n > 0 && scratch == nullptr) {
      enough = false;
      break;
    }
    b.layout = {b.sequences, sequences.tokens, nullptr, nullptr};
    if (sequences.cu_seqlens != nullptr) {
      for (std::int64_t s = 0; s <= b.sequences; ++s) {
        starts[s] = sequences.cu_seqlens[sequence + s] - sequences.cu_seqlens[sequence];
      }
      b.layout = {b.sequences, b.n, nullptr, starts};
    }
    b.place(call, scratch);
    if (b.n > 0) enough = run_batch(call, b, threads);
    sequence += b.sequences;
    row += b.n;
  }
  free(starts);
  free(scratch);
  return enough;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
