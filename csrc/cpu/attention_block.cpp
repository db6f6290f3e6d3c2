// attention_block on the CPU: all threads take a few sequences at a time through it, step by step, so that what lies
// between stays in their second caches. Products are cut by rows, whatever sequences those belong to: only attention
// knows where a sequence ends.
#include "attention_block.h"

#include "attend.h"
#include "batches.h"
#include "closing_norm.h"
#include "product.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

inline std::int64_t inner(const AttentionBlock& call) { return call.heads * call.width; }

// A batch, and where its steps put their results.
struct Steps : Batch {
  float* query;        // [n, H·D]; then attention's heads
  float *key, *value;  // [n, H·D]
  float* result;       // [n, C], in their place: the output before its norm
  float* small;        // [n, max(H, 2)]: attention's lse, then the norm's moments

  static std::int64_t per_token(const AttentionBlock& call) {
    return inner(call) + larger(2 * inner(call), call.channels) + larger(call.heads, 2);
  }
  Steps(const AttentionBlock& call, const Batch& batch, float* memory) : Batch(batch), query(memory) {
    const std::int64_t V = inner(call);
    key = result = query + n * V;
    value = key + n * V;
    small = key + n * larger(2 * V, call.channels);
  }
};

bool run_batch(const AttentionBlock& call, const Steps& b, int threads) {
  const std::int64_t n = b.n, C = call.channels, V = inner(call), stride = call.x.stride;
  const float* x = static_cast<const float*>(call.x.data) + b.row * stride;
  float* out = static_cast<float*>(call.out.data) + b.row * call.out.stride;
  const Product projections[] = {{call.query, 1, C, V, x, stride, b.query, V},
                                 {call.key, 1, C, V, x, stride, b.key, V},
                                 {call.value, 1, C, V, x, stride, b.value, V}};
  multiply(call.gemm, projections, 3, n, threads, [](std::int64_t, const Piece&) {});
  const bool enough = attend(call, b, b.query, b.key, b.value, b.query, V, b.small, threads);
  multiply(call.gemm, {call.output, 1, V, C, b.query, V, b.result, C}, n, threads);
  return closing_norm(call.norm, n, C, b.result, x, stride, out, call.out.stride, b.small, threads) && enough;
}

}  // namespace

bool attention_block_forward(const AttentionBlock& call, int threads) {
  return for_each_batch(call.sequences, Steps::per_token(call), threads, [&](const Batch& batch, float* scratch) {
    return run_batch(call, Steps(call, batch, scratch), threads);
  });
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
