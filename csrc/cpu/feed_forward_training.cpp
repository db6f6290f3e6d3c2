// feed_forward_block on the CPU where it is differentiated: forward and backward a thread takes a tile of tokens through
// all of the sub-layer, so that each step finds in its second cache what the step before left there.
//
// Gradients of biases and of the norm are summed over each tile, then over the tiles in order. Tiles follow from the
// number of rows and of threads, so one number of threads always gives the same bits.
#include "feed_forward_training.h"

#include <stdlib.h>

#include "activation_gradient.h"
#include "bias_activation.h"
#include "integers.h"
#include "product.h"
#include "residual_norm.h"
#include "scratch.h"
#include "tiles.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kPanel = 512;  // columns differentiated together; a multiple of kUnit

// A row of any of the matrices.
inline float* row_of(const Matrix& x, std::int64_t row) { return static_cast<float*>(x.data) + row * x.stride; }

bool forward_tile(const FeedForwardTrainingForward& call, std::int64_t first, std::int64_t rows, float* hidden,
                  int threads) {
  const FeedForwardBlock& block = call.block;
  const std::int64_t C = block.channels, F = block.hidden, G = block.groups;
  const float* const x = row_of(block.x, first);
  float* const pre = call.kept.product + first * F;
  float* const result = call.kept.result + first * C;
  multiply_here(block.gemm, {without_bias(block.up), G, C / G, F / G, x, block.x.stride, pre, F}, rows);

  BiasActivationForward activation;
  activation.shape = {rows, F, block.activation, DType::kFloat32};
  activation.x = {pre, F};
  activation.bias = block.up.bias;
  activation.out = {hidden, F};
  const bool activated = bias_activation_forward(activation, threads);

  multiply_here(block.gemm, {block.down, G, F / G, C / G, hidden, F, result, C}, rows);

  ResidualNormForward norm;
  norm.shape = {rows, C, DType::kFloat32};
  norm.dropout = call.dropout;
  norm.dropout.first_row = first;
  norm.eps = block.norm.eps;
  norm.x = {result, C};
  norm.residual = {row_of(block.x, first), block.x.stride};
  norm.weight = block.norm.weight;
  norm.bias = block.norm.bias;
  norm.out = {row_of(block.out, first), block.out.stride};
  norm.moments = call.kept.moments + 2 * first;
  return residual_norm_forward(norm, threads) && activated;
}

// Gradients of vectors, summed over the rows of a tile.
struct Sums {
  float *up_bias, *down_bias, *norm_weight, *norm_bias;

  static std::int64_t padded(std::int64_t columns) { return ceil_div(columns, kUnit) * kUnit; }
  static std::int64_t size(const FeedForwardBlock& block) { return padded(block.hidden) + 3 * block.channels; }
  Sums(const FeedForwardBlock& block, float* memory)
      : up_bias(memory),
        down_bias(memory + padded(block.hidden)),
        norm_weight(down_bias + block.channels),
        norm_bias(norm_weight + block.channels) {}
};

static_assert(kUnit % Vector<float>::lanes == 0);

bool backward_tile(const FeedForwardTrainingBackward& call, const float* up_bias, std::int64_t first, std::int64_t rows,
                   const Sums& sums, int threads) {
  const FeedForwardBlock& block = call.block;
  const std::int64_t C = block.channels, F = block.hidden, G = block.groups;
  float* const d_x = call.d_x != nullptr ? call.d_x + first * C : nullptr;
  float* const d_result = call.d_result + first * C;
  float* const d_product = call.d_product + first * F;

  ResidualNormBackward norm;
  norm.shape = {rows, C, DType::kFloat32};
  norm.dropout = call.dropout;
  norm.dropout.first_row = first;
  norm.grad = {row_of(call.grad, first), call.grad.stride};
  norm.x = {call.kept.result + first * C, C};
  norm.residual = {row_of(block.x, first), block.x.stride};
  norm.weight = block.norm.weight;
  norm.moments = call.kept.moments + 2 * first;
  norm.d_x = {d_result, C};
  norm.d_residual = {d_x, C};  // to which the up layer's share is added below
  norm.d_weight = sums.norm_weight;
  norm.d_bias = sums.norm_bias;
  const bool enough = residual_norm_backward(norm, threads);

  multiply_here(block.gemm, {turned(block.down), G, C / G, F / G, d_result, C, d_product, F}, rows);
  const ActivationGradientRow differentiate = activation_gradient_of(block.activation);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (std::int64_t c = 0; c < F; c += kPanel) {
    const std::int64_t columns = smaller(kPanel, F - c);
    for (std::int64_t i = c; i < Sums::padded(c + columns); ++i) sums.up_bias[i] = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      differentiate(call.kept.product + (first + r) * F + c, up_bias + c, columns, d_product + r * F + c,
                    call.hidden + (first + r) * F + c, sums.up_bias + c);
    }
  }
  for (std::int64_t c = 0; c < C; ++c) sums.down_bias[c] = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < C; ++c) sums.down_bias[c] += d_result[r * C + c];
  }
  if (d_x != nullptr) {
    multiply_and_add_here(block.gemm, {turned(block.up), G, F / G, C / G, d_product, F, d_x, C}, rows);
  }
  return enough;
}

inline void copy(const float* from, std::int64_t count, float* to) {
  __builtin_memcpy(to, from, count * sizeof(float));
}

}  // namespace

bool feed_forward_training_forward(const FeedForwardTrainingForward& call, int threads) {
  const std::int64_t all = call.block.rows;
  const Tiles tiles(all, threads);
  const std::int64_t room = tiles.rows * call.block.hidden;
  float* const scratch = borrow(smaller(tiles.count, threads) * room);
  if (scratch == nullptr) return false;
  bool enough = true;
  if (tiles.count == 1) {
    enough = forward_tile(call, 0, all, scratch, threads);
  } else {
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(&& : enough)
    for (int thread = 0; thread < threads; ++thread) {
      for (std::int64_t t = thread; t < tiles.count; t += threads) {
        const std::int64_t first = t * tiles.rows, rows = smaller(tiles.rows, all - first);
        enough = forward_tile(call, first, rows, scratch + thread * room, 1) && enough;
      }
    }
  }
  give_back(scratch);
  return enough;
}

bool feed_forward_training_backward(const FeedForwardTrainingBackward& call, int threads) {
  const FeedForwardBlock& block = call.block;
  const std::int64_t all = block.rows;
  const Tiles tiles(all, threads);
  const std::int64_t C = block.channels, F = block.hidden, size = Sums::size(block), padded = Sums::padded(F);
  float* const up_bias = allocate<float>(padded + tiles.count * size);
  if (up_bias == nullptr) return false;
  for (std::int64_t c = 0; c < padded; ++c) up_bias[c] = block.up.bias != nullptr && c < F ? block.up.bias[c] : 0;
  float* const partial = up_bias + padded;  // [tiles.count, size]
  bool enough = true;
  if (tiles.count == 1) {
    enough = backward_tile(call, up_bias, 0, all, Sums(block, partial), threads);
  } else {
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(&& : enough)
    for (std::int64_t t = 0; t < tiles.count; ++t) {
      const std::int64_t first = t * tiles.rows, rows = smaller(tiles.rows, all - first);
      enough = backward_tile(call, up_bias, first, rows, Sums(block, partial + t * size), 1) && enough;
    }
  }
  for (std::int64_t t = 1; t < tiles.count; ++t) {
    for (std::int64_t c = 0; c < size; ++c) partial[c] += partial[t * size + c];
  }
  const Sums sums(block, partial);
  copy(sums.up_bias, F, call.d_up_bias);
  copy(sums.down_bias, C, call.d_down_bias);
  copy(sums.norm_weight, C, call.d_norm_weight);
  copy(sums.norm_bias, C, call.d_norm_bias);
  free(up_bias);
  return enough;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
