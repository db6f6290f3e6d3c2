// feed_forward_block on the CPU: a thread takes a tile of tokens through both layers, the residual connection and the
// norm, so that what lies between stays in its second cache (256 tokens of 1,024 channels are a megabyte).
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

constexpr std::int64_t kMostRows = 256;  // of a tile; products of fewer rows read the weights more often
constexpr std::int64_t kPiece = 16;      // tiles are multiples of it

// Rows of a tile, so that each thread has one.
inline std::int64_t tile_rows(std::int64_t rows, int threads) {
  return smaller(kMostRows, ceil_div(ceil_div(rows, threads), kPiece) * kPiece);
}

bool activate(const FeedForwardBlock& call, std::int64_t rows, float* hidden) {
  BiasActivationForward step;
  step.shape = {rows, call.hidden, call.activation, DType::kFloat32};
  step.x = step.out = {hidden, call.hidden};
  step.bias = call.up.bias;
  return bias_activation_forward(step, 1);
}

}  // namespace

bool feed_forward_block_forward(const FeedForwardBlock& call, int threads) {
  const std::int64_t C = call.channels, F = call.hidden, G = call.groups;
  const std::int64_t tile = tile_rows(call.rows, threads), tiles = ceil_div(call.rows, tile);
  const std::int64_t room = tile * (F + C + 2);  // of a thread: hidden, result, moments
  float* const scratch = allocate<float>(threads * room);
  if (scratch == nullptr) return false;
  bool enough = true;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(&& : enough)
  for (int thread = 0; thread < threads; ++thread) {
    float* const hidden = scratch + thread * room;
    float* const result = hidden + tile * F;
    for (std::int64_t t = thread; t < tiles; t += threads) {
      const std::int64_t first = t * tile, rows = smaller(tile, call.rows - first);
      const float* x = static_cast<const float*>(call.x.data) + first * call.x.stride;
      product(call.gemm, call.up, G, rows, C / G, F / G, x, call.x.stride, false, hidden, F);
      enough = activate(call, rows, hidden) && enough;
      fill_rows(call.down.bias, rows, C, result, C);
      product(call.gemm, call.down, G, rows, F / G, C / G, hidden, F, true, result, C);
      float* out = static_cast<float*>(call.out.data) + first * call.out.stride;
      enough = closing_norm(call.norm, rows, C, result, x, call.x.stride, out, call.out.stride, result + tile * C) &&
               enough;
    }
  }
  free(scratch);
  return enough;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
