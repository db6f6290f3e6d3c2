// mixed_block on the CPU: all threads take a few sequences at a time through it, step by step, so that what lies
// between stays in their second caches. Products are cut by rows, whatever sequences those belong to: sentences alone
// are too short for them. Only attention and the convolutions know where a sequence ends.
#include "mixed_block.h"

#include "attend.h"
#include "batches.h"
#include "closing_norm.h"
#include "depthwise_conv.h"
#include "light_conv.h"
#include "product.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// A batch, and where its steps put their results.
struct Steps : Batch {
  float *query, *key, *value, *conv_value;  // [n, H·D]
  float* context;                           // [n, 2·H·D]; before it, the pointwise product [n, H·D] in the same rows
  float* logits;                            // [n, H·K]
  float* span;                              // [n, C]; then the output before its norm
  float* small;                             // [n, max(H, 2)]: attention's lse, then the norm's moments

  static std::int64_t per_token(const MixedBlock& call) {
    return 6 * call.heads * call.width + call.heads * call.taps + call.channels + larger(call.heads, 2);
  }
  Steps(const MixedBlock& call, const Batch& batch, float* memory) : Batch(batch) {
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

bool spans(const MixedBlock& call, const float* x, const Steps& b, int threads) {
  const std::int64_t C = call.channels;
  DepthwiseConvForward step;
  step.shape = {b.layout, C, call.taps, false, DType::kFloat32};
  step.x = rows_of(b, const_cast<float*>(x), call.x.stride, 0);
  step.weight = {call.depthwise.data, 0, call.depthwise.stride, 0};
  step.out = rows_of(b, b.span, C, 0);
  return depthwise_conv_forward(step, threads);
}

bool convolve(const MixedBlock& call, const Steps& b, int threads) {
  const std::int64_t width = call.heads * call.width;
  LightConvForward step;
  step.shape = {b.layout, call.heads, call.width, call.taps, true, false, DType::kFloat32};
  step.values = rows_of(b, b.conv_value, width, call.width);
  step.logits = rows_of(b, b.logits, call.heads * call.taps, call.taps);
  step.out = rows_of(b, b.context + width, 2 * width, call.width);
  return light_conv_forward(step, threads);
}

bool run_batch(const MixedBlock& call, const Steps& b, int threads) {
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
  enough = attend(call, b, b.query, b.key, b.value, b.context, 2 * width, b.small, threads) &&
           convolve(call, b, threads) && enough;
  multiply(call.gemm, {call.output, 1, 2 * width, C, b.context, 2 * width, b.span, C}, n, threads);
  return closing_norm(call.norm, n, C, b.span, x, stride, out, call.out.stride, b.small, threads) && enough;
}

}  // namespace

bool mixed_block_forward(const MixedBlock& call, int threads) {
  return for_each_batch(call.sequences, Steps::per_token(call), threads, [&](const Batch& batch, float* scratch) {
    return run_batch(call, Steps(call, batch, scratch), threads);
  });
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
