// dynamic_conv_block on the CPU: forward and backward all threads take a few sequences at a time through it, step by step,
// so that each step finds in the second caches what the step before left there. Products are cut by rows, whatever
// sequences those belong to. Only the convolutions know where a sequence ends.
//
// Gradients of weights and vectors are summed over each batch of sequences, then over the batches in order. Batches follow
// from the sizes and from the number of threads, so one number of threads always gives the same bits.
#include "dynamic_conv_block.h"

#include "batches.h"
#include "bias_activation.h"
#include "closing_norm.h"
#include "depthwise_conv.h"
#include "glu.h"
#include "light_conv.h"
#include "product.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

inline std::int64_t inner(const DynamicConvBlock& call) { return call.heads * call.width; }

// A row of any of the matrices.
inline float* row_of(const Matrix& x, std::int64_t row) { return static_cast<float*>(x.data) + row * x.stride; }

// A batch, and where its steps put their results: where they are kept, or in scratch memory.
struct Steps : Batch {
  float* gated;    // [n, H·D]
  float* gate;     // [n, H·D]
  float* mixed;    // [n, H·D], the pointwise product
  float* span;     // [n, H·D]; then what the light convolution gives
  float* logits;   // [n, H·K]
  float* result;   // [n, C]
  float* moments;  // [n, 2]

  static std::int64_t per_token(const DynamicConvBlock& call) {
    if (call.kept.gated != nullptr) return inner(call);
    return 2 * inner(call) + larger(inner(call), call.channels) + call.heads * call.taps + 2;
  }
  Steps(const DynamicConvBlock& call, const Batch& batch, float* memory) : Batch(batch), mixed(nullptr), span(memory) {
    const std::int64_t V = inner(call), L = call.heads * call.taps;
    if (call.kept.gated != nullptr) {
      gated = call.kept.gated + row * V;
      gate = call.kept.gate + row * V;
      logits = call.kept.logits + row * L;
      result = call.kept.result + row * call.channels;
      moments = call.kept.moments + row * 2;
      return;
    }
    gated = span + n * V;
    gate = mixed = result = gated + n * V;  // one after the other
    logits = gate + n * larger(V, call.channels);
    moments = logits + n * L;
  }
};

DepthwiseConvShape depthwise_shape(const DynamicConvBlock& call, const Batch& b) {
  return {b.layout, inner(call), call.span, false, DType::kFloat32};
}

LightConvShape light_shape(const DynamicConvBlock& call, const Batch& b) {
  return {b.layout, call.heads, call.width, call.taps, true, false, DType::kFloat32};
}

bool convolve_depthwise(const DynamicConvBlock& call, const Batch& b, float* gated, float* span, int threads) {
  const std::int64_t V = inner(call);
  DepthwiseConvForward step;
  step.shape = depthwise_shape(call, b);
  step.x = rows_of(b, gated, V, 0);
  step.weight = {call.depthwise.data, 0, call.depthwise.stride, 0};
  step.out = rows_of(b, span, V, 0);
  return depthwise_conv_forward(step, threads);
}

bool convolve(const DynamicConvBlock& call, const Batch& b, float* gated, float* logits, float* out, int threads) {
  const std::int64_t V = inner(call);
  LightConvForward step;
  step.shape = light_shape(call, b);
  step.values = rows_of(b, gated, V, call.width);
  step.logits = rows_of(b, logits, call.heads * call.taps, call.taps);
  step.out = rows_of(b, out, V, call.width);
  return light_conv_forward(step, threads);
}

// Both products of x, and what comes of them.
bool gate_values(const DynamicConvBlock& call, const Steps& b, int threads) {
  const std::int64_t V = inner(call), stride = call.x.stride;
  const float* const x = row_of(call.x, b.row);
  const Product value{without_bias(call.value), 1, call.channels, V, x, stride, b.gated, V};
  const Product gate{without_bias(call.gate), 1, call.channels, V, x, stride, b.gate, V};
  bool enough = true;
  for_each_piece(&value, 1, b.n, threads, [&](std::int64_t, const Piece& piece) {
    multiply_piece(call.gemm, value, piece);
    multiply_piece(call.gemm, gate, piece);
    GluForward step;
    step.shape = {piece.rows, piece.columns, DType::kFloat32};
    step.left = step.out = {b.gated + piece.row * V + piece.column, V};
    step.gate = {b.gate + piece.row * V + piece.column, V};
    step.left_bias = call.value.bias + piece.column;
    step.gate_bias = call.gate.bias + piece.column;
    if (!glu_forward(step, 1)) {
#pragma omp atomic write
      enough = false;
    }
  });
  return enough;
}

bool forward_batch(const DynamicConvBlock& call, const Steps& b, int threads) {
  const std::int64_t C = call.channels, V = inner(call), L = call.heads * call.taps;
  bool enough = gate_values(call, b, threads) && convolve_depthwise(call, b, b.gated, b.span, threads);
  const float* spans = b.span;
  if (call.pointwise.data != nullptr) {
    multiply(call.gemm, {call.pointwise, 1, V, V, b.span, V, b.mixed, V}, b.n, threads);
    spans = b.mixed;
  }
  multiply(call.gemm, {call.kernel, 1, V, L, spans, V, b.logits, L}, b.n, threads);
  enough = convolve(call, b, b.gated, b.logits, b.span, threads) && enough;
  multiply(call.gemm, {call.output, 1, V, C, b.span, V, b.result, C}, b.n, threads);
  Dropout dropout = call.dropout;
  dropout.first_row = b.row;
  return closing_norm(call.norm, b.n, C, b.result, row_of(call.x, b.row), call.x.stride, row_of(call.out, b.row),
                      call.out.stride, b.moments, threads, dropout) &&
         enough;
}

// Gradients of vectors, one after the other.
struct Vectors {
  float *value_bias, *gate_bias, *kernel_bias, *output_bias, *norm_weight, *norm_bias, *depthwise;

  static std::int64_t size(const DynamicConvBlock& call) {
    return (2 + call.span) * inner(call) + call.heads * call.taps + 3 * call.channels;
  }
  Vectors(const DynamicConvBlock& call, float* memory)
      : value_bias(memory),
        gate_bias(value_bias + inner(call)),
        kernel_bias(gate_bias + inner(call)),
        output_bias(kernel_bias + call.heads * call.taps),
        norm_weight(output_bias + call.channels),
        norm_bias(norm_weight + call.channels),
        depthwise(norm_bias + call.channels) {}
};

// Sums over the rows of x [n, columns].
bool sum_columns(const float* x, std::int64_t n, std::int64_t columns, float* sums, int threads) {
  BiasActivationBackward step;
  step.shape = {n, columns, Activation::kNone, DType::kFloat32};
  step.grad = step.x = {const_cast<float*>(x), columns};
  step.d_bias = sums;
  return bias_activation_backward(step, threads);
}

bool differentiate_norm(const DynamicConvBlockBackward& call, const Steps& b, float* d_result, float* d_x,
                        const Vectors& vectors, int threads) {
  const DynamicConvBlock& block = call.block;
  const std::int64_t C = block.channels;
  ResidualNormBackward step;
  step.shape = {b.n, C, DType::kFloat32};
  step.dropout = block.dropout;
  step.dropout.first_row = b.row;
  step.grad = {row_of(call.grad, b.row), call.grad.stride};
  step.x = {b.result, C};
  step.residual = {row_of(block.x, b.row), block.x.stride};
  step.weight = block.norm.weight;
  step.moments = b.moments;
  step.d_x = {d_result, C};
  step.d_residual = {d_x, C};  // to which the share of value and gate is added later
  step.d_weight = vectors.norm_weight;
  step.d_bias = vectors.norm_bias;
  return residual_norm_backward(step, threads);
}

bool differentiate_convolution(const DynamicConvBlock& call, const Steps& b, float* d_convolved, float* d_gated,
                               float* d_logits, int threads) {
  const std::int64_t V = inner(call), L = call.heads * call.taps;
  LightConvBackward step;
  step.shape = light_shape(call, b);
  step.grad = rows_of(b, d_convolved, V, call.width);
  step.values = rows_of(b, b.gated, V, call.width);
  step.logits = rows_of(b, b.logits, L, call.taps);
  step.d_values = rows_of(b, d_gated, V, call.width);
  step.d_logits = rows_of(b, d_logits, L, call.taps);
  return light_conv_backward(step, threads);
}

bool differentiate_depthwise(const DynamicConvBlock& call, const Steps& b, float* d_span, float* d_gated,
                             const Vectors& vectors, int threads) {
  const std::int64_t V = inner(call);
  DepthwiseConvBackward step;
  step.shape = depthwise_shape(call, b);
  step.grad = rows_of(b, d_span, V, 0);
  step.x = rows_of(b, b.gated, V, 0);
  step.weight = {call.depthwise.data, 0, call.depthwise.stride, 0};
  step.d_x = rows_of(b, d_gated, V, 0);
  step.d_weight = vectors.depthwise;
  return depthwise_conv_backward(step, threads);
}

bool differentiate_gate(const DynamicConvBlock& call, const Steps& b, float* d_gated, float* d_halves,
                        const Vectors& vectors, int threads) {
  const std::int64_t V = inner(call);
  GluBackward step;
  step.shape = {b.n, V, DType::kFloat32};
  step.grad = {d_gated, V};
  step.out = {b.gated, V};
  step.gate = {b.gate, V};
  step.gate_bias = call.gate.bias;
  step.d_left = {d_halves, 2 * V};
  step.d_gate = {d_halves + V, 2 * V};
  step.d_left_bias = vectors.value_bias;
  step.d_gate_bias = vectors.gate_bias;
  return glu_backward(step, threads);
}

void add(const float* from, std::int64_t count, float* to, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// What the backward pass needs for a batch: floats a token, and where they are.
struct Gradients {
  float *d_result, *d_context, *d_gated, *d_halves, *d_logits, *spare;

  static std::int64_t per_token(const DynamicConvBlock& call) {
    return call.channels + 5 * inner(call) + call.heads * call.taps;
  }
  Gradients(const DynamicConvBlock& call, std::int64_t n, float* memory)
      : d_result(memory),
        d_context(d_result + n * call.channels),  // of what the light convolution gives, then of the depthwise one
        d_gated(d_context + n * inner(call)),
        d_halves(d_gated + n * inner(call)),  // [n, 2·H·D], of the products of value and gate
        d_logits(d_halves + n * 2 * inner(call)),
        spare(d_logits + n * call.heads * call.taps) {}  // [n, H·D]
};

bool backward_batch(const DynamicConvBlockBackward& call, const Steps& b, const Gradients& g, const Vectors& vectors,
                    int threads) {
  const DynamicConvBlock& block = call.block;
  const std::int64_t n = b.n, C = block.channels, V = inner(block), L = block.heads * block.taps;
  float* const d_x = call.d_x != nullptr ? call.d_x + b.row * C : nullptr;
  const float beta = b.row == 0 ? 0.0f : 1.0f;

  bool enough = differentiate_norm(call, b, g.d_result, d_x, vectors, threads);
  multiply(block.gemm, {turned(block.output), 1, C, V, g.d_result, C, g.d_context, V}, n, threads);
  if (call.d_output != nullptr) {
    enough = convolve(block, b, b.gated, b.logits, g.spare, threads) && enough;
    add_weight_gradient(block.gemm, n, g.d_result, C, C, g.spare, V, V, beta, call.d_output, threads);
  }
  enough = differentiate_convolution(block, b, g.d_context, g.d_gated, g.d_logits, threads) && enough;
  multiply(block.gemm, {turned(block.kernel), 1, L, V, g.d_logits, L, g.d_context, V}, n, threads);
  if (call.d_kernel != nullptr) {
    enough = convolve_depthwise(block, b, b.gated, g.spare, threads) && enough;
    add_weight_gradient(block.gemm, n, g.d_logits, L, L, g.spare, V, V, beta, call.d_kernel, threads);
  }
  enough = differentiate_depthwise(block, b, g.d_context, g.spare, vectors, threads) && enough;
  add(g.spare, n * V, g.d_gated, threads);
  enough = differentiate_gate(block, b, g.d_gated, g.d_halves, vectors, threads) && enough;
  if (d_x != nullptr) {
    const Product value{turned(block.value), 1, V, C, g.d_halves, 2 * V, d_x, C};
    const Product gate{turned(block.gate), 1, V, C, g.d_halves + V, 2 * V, d_x, C};
    for_each_piece(&value, 1, n, threads, [&](std::int64_t, const Piece& piece) {
      call_blas(block.gemm, value, piece, 1.0f);
      call_blas(block.gemm, gate, piece, 1.0f);
    });
  }
  if (call.d_projections != nullptr) {
    add_weight_gradient(block.gemm, n, g.d_halves, 2 * V, 2 * V, row_of(block.x, b.row), block.x.stride, C, beta,
                        call.d_projections, threads);
  }
  return sum_columns(g.d_logits, n, L, vectors.kernel_bias, threads) &&
         sum_columns(g.d_result, n, C, vectors.output_bias, threads) && enough;
}

}  // namespace

bool dynamic_conv_block_forward(const DynamicConvBlock& call, int threads) {
  return for_each_batch(call.sequences, Steps::per_token(call), threads, [&](const Batch& batch, float* scratch) {
    return forward_batch(call, Steps(call, batch, scratch), threads);
  });
}

bool dynamic_conv_block_backward(const DynamicConvBlockBackward& call, int threads) {
  const std::int64_t size = Vectors::size(call.block);
  float* const partial = allocate<float>(size);
  if (partial == nullptr) return false;
  for (std::int64_t i = 0; i < size; ++i) call.d_vectors[i] = 0;
  const Vectors vectors(call.block, partial);
  const std::int64_t per_token = Gradients::per_token(call.block);
  const bool enough =
      for_each_batch(call.block.sequences, per_token, threads, [&](const Batch& batch, float* scratch) {
        const Steps steps(call.block, batch, nullptr);
        const bool done = backward_batch(call, steps, Gradients(call.block, batch.n, scratch), vectors, threads);
        for (std::int64_t i = 0; i < size; ++i) call.d_vectors[i] += partial[i];
        return done;
      });
  free(partial);
  return enough;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
