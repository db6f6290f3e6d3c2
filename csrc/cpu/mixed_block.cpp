// mixed_block on the CPU: a thread takes a sequence through all of it, so that what lies between stays in its second
// cache. Where sequences are too few, or too unequal, to keep the threads busy, all of them share the steps of one
// sequence after the other.
#include "mixed_block.h"

#include <stdlib.h>
#if defined(_OPENMP)
#include <omp.h>
#endif

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

// Where the steps of one sequence of n tokens put their results, each contiguous.
struct Buffers {
  float *query, *key, *value, *conv_value, *pointwise;  // [n, H·D]
  float* context;                                       // [n, 2·H·D]
  float* logits;                                        // [n, H·K]
  float* span;                                          // [n, C]; then the output before its norm
  float* small;                                         // [n, max(H, 2)]: attention's lse, then the norm's moments

  static std::int64_t size(const MixedBlock& call, std::int64_t n) {
    const std::int64_t per_token =
        7 * call.heads * call.width + call.heads * call.taps + call.channels + larger(call.heads, 2);
    return ceil_div(n * per_token, 16) * 16;
  }
  Buffers(const MixedBlock& call, std::int64_t n, float* memory) {
    const std::int64_t width = call.heads * call.width;
    float** const parts[] = {&query, &key, &value, &conv_value, &pointwise};
    for (float** part : parts) {
      *part = memory;
      memory += n * width;
    }
    context = memory;
    logits = context + n * 2 * width;
    span = logits + n * call.heads * call.taps;
    small = span + n * call.channels;
  }
};

Operand heads_of(float* rows, std::int64_t stride, std::int64_t width) { return {rows, 0, stride, width}; }

bool spans(const MixedBlock& call, const float* x, std::int64_t n, float* out, int threads) {
  DepthwiseConvForward step;
  step.shape = {{1, n, nullptr, nullptr}, call.channels, call.taps, false, DType::kFloat32};
  step.x = {const_cast<float*>(x), 0, call.x.token, 0};
  step.weight = {call.depthwise.data, 0, call.depthwise.stride, 0};
  step.out = {out, 0, call.channels, 0};
  return depthwise_conv_forward(step, threads);
}

bool attend(const MixedBlock& call, const Span& tokens, const Buffers& b, int threads) {
  const std::int64_t width = call.heads * call.width;
  AttentionForward step;
  step.shape.sequences = {1, tokens.count, nullptr, nullptr};
  step.shape.heads = call.heads;
  step.shape.width = call.width;
  step.shape.scale = call.scale;
  step.query = heads_of(b.query, width, call.width);
  step.key = heads_of(b.key, width, call.width);
  step.value = heads_of(b.value, width, call.width);
  if (call.key_bias.data != nullptr) {
    step.key_bias = {static_cast<float*>(call.key_bias.data) + tokens.batch * call.key_bias.stride, 0};
  }
  step.out = heads_of(b.context, 2 * width, call.width);
  step.lse = b.small;
  return attention_forward(step, threads);
}

bool convolve(const MixedBlock& call, std::int64_t n, const Buffers& b, int threads) {
  const std::int64_t width = call.heads * call.width;
  LightConvForward step;
  step.shape = {{1, n, nullptr, nullptr}, call.heads, call.width, call.taps, true, false, DType::kFloat32};
  step.values = heads_of(b.conv_value, width, call.width);
  step.logits = heads_of(b.logits, call.heads * call.taps, call.taps);
  step.out = heads_of(b.context + width, 2 * width, call.width);
  return light_conv_forward(step, threads);
}

bool run_sequence(const MixedBlock& call, const Span& tokens, float* memory, int threads) {
  const std::int64_t n = tokens.count, C = call.channels, width = call.heads * call.width;
  const std::int64_t token = call.x.token;
  const Buffers b(call, n, memory);
  const float* x = static_cast<const float*>(call.x.data) + tokens.batch * call.x.batch + tokens.first * token;
  linear(call.gemm, call.query, n, C, width, x, token, b.query, width);
  linear(call.gemm, call.key, n, C, width, x, token, b.key, width);
  linear(call.gemm, call.value, n, C, width, x, token, b.value, width);
  linear(call.gemm, call.conv_value, n, C, width, x, token, b.conv_value, width);
  bool enough = spans(call, x, n, b.span, threads);
  linear(call.gemm, call.pointwise, n, C, width, b.span, C, b.pointwise, width);
  for (std::int64_t i = 0; i < n * width; ++i) b.pointwise[i] *= b.query[i];
  linear(call.gemm, call.kernel, n, width, call.heads * call.taps, b.pointwise, width, b.logits,
         call.heads * call.taps);
  enough = attend(call, tokens, b, threads) && convolve(call, n, b, threads) && enough;
  linear(call.gemm, call.output, n, 2 * width, C, b.context, 2 * width, b.span, C);
  float* out = static_cast<float*>(call.out.data) + tokens.batch * call.out.batch + tokens.first * call.out.token;
  return closing_norm(call.norm, n, C, b.span, x, token, out, call.out.token, b.small, threads) && enough;
}

// Whether threads that take the next sequence each, in order, are busy for most of the time.
bool threads_take_sequences(const Sequences& sequences, int threads) {
  if (threads == 1) return true;
  std::int64_t* const busy = allocate<std::int64_t>(threads);
  if (busy == nullptr) return false;
  std::int64_t total = 0, longest = 0;
  for (int t = 0; t < threads; ++t) busy[t] = 0;
  for (std::int64_t b = 0; b < sequences.batches; ++b) {
    int next = 0;
    for (int t = 1; t < threads; ++t) next = busy[t] < busy[next] ? t : next;
    busy[next] += span_of(sequences, b).count;
    total += span_of(sequences, b).count;
    longest = larger(longest, busy[next]);
  }
  free(busy);
  return longest * threads * 4 <= total * 5;
}

}  // namespace

bool mixed_block_forward(const MixedBlock& call, int threads) {
  const Sequences& sequences = call.sequences;
  const bool alone = threads_take_sequences(sequences, threads);
  const int workers = alone ? threads : 1;
  const std::int64_t room = Buffers::size(call, longest_span(sequences));
  float* const scratch = allocate<float>(workers * room);
  if (scratch == nullptr) return false;
  bool enough = true;
  if (alone) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) reduction(&& : enough)
    for (std::int64_t b = 0; b < sequences.batches; ++b) {
#if defined(_OPENMP)
      float* const memory = scratch + omp_get_thread_num() * room;
#else
      float* const memory = scratch;
#endif
      const Span tokens = span_of(sequences, b);
      if (tokens.count > 0) enough = run_sequence(call, tokens, memory, 1) && enough;
    }
  } else {
    for (std::int64_t b = 0; b < sequences.batches; ++b) {
      const Span tokens = span_of(sequences, b);
      if (tokens.count > 0) enough = run_sequence(call, tokens, scratch, threads) && enough;
    }
  }
  free(scratch);
  return enough;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
