// feed_forward_block on the CPU: a few hundred tokens at a time go through both layers, the residual connection and the
// norm, so that what lies between stays in the threads' second caches (256 tokens of 1,024 channels are a megabyte).
#include "feed_forward_block.h"

#include <stdlib.h>

#include "bias_activation.h"
#include "closing_norm.h"
#include "integers.h"
#include "product.h"
#include "scratch.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// Memory of one batch of tokens.
struct Buffers {
  float *hidden, *result, *moments;  // [rows, F], [rows, C], [rows, 2]

  static std::int64_t size(const FeedForwardBlock& call, std::int64_t rows) {
    return rows * (call.hidden + call.channels + 2);
  }
  Buffers(const FeedForwardBlock& call, std::int64_t rows, float* memory)
      : hidden(memory), result(hidden + rows * call.hidden), moments(result + rows * call.channels) {}
};

bool activate(const FeedForwardBlock& call, const Piece& piece, float* hidden) {
  BiasActivationForward step;
  step.shape = {piece.rows, piece.columns, call.activation, DType::kFloat32};
  step.x = step.out = {hidden + piece.row * call.hidden + piece.column, call.hidden};
  step.bias = call.up.bias != nullptr ? call.up.bias + piece.column : nullptr;
  return bias_activation_forward(step, 1);
}

bool run_tokens(const FeedForwardBlock& call, std::int64_t first, std::int64_t rows, const Buffers& b, int threads) {
  const std::int64_t C = call.channels, F = call.hidden, G = call.groups;
  const float* x = static_cast<const float*>(call.x.data) + first * call.x.stride;
  float* out = static_cast<float*>(call.out.data) + first * call.out.stride;
  Product up{call.up, G, C / G, F / G, x, call.x.stride, b.hidden, F};
  up.weight.bias = nullptr;  // the activation adds it
  bool enough = true;
  multiply(call.gemm, &up, 1, rows, threads, [&](std::int64_t, const Piece& piece) {
    if (!activate(call, piece, b.hidden)) {
#pragma omp atomic write
      enough = false;
    }
  });
  multiply(call.gemm, Product{call.down, G, F / G, C / G, b.hidden, F, b.result, C}, rows, threads);
  return closing_norm(call.norm, rows, C, b.result, x, call.x.stride, out, call.out.stride, b.moments, threads) &&
         enough;
}

}  // namespace

bool feed_forward_block_forward(const FeedForwardBlock& call, int threads) {
  const std::int64_t batches = ceil_div(call.rows, threads * kMostRows), most = ceil_div(call.rows, batches);
  float* const scratch = borrow(Buffers::size(call, most));
  if (scratch == nullptr) return false;
  bool enough = true;
  for (std::int64_t batch = 0; batch < batches; ++batch) {
    const std::int64_t first = call.rows * batch / batches, end = call.rows * (batch + 1) / batches;
    enough = run_tokens(call, first, end - first, Buffers(call, most, scratch), threads) && enough;
  }
  give_back(scratch);
  return enough;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
