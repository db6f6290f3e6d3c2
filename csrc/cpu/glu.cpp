// glu on the CPU: one pass over the rows of its matrices, a piece of a row at a time (pieces.h). The backward pass takes
// the output in place of the left half: out · (1 - s) is the left half times the derivative of the gate's sigmoid s.
//
// Gradients of the biases are summed in two stages: over the rows of a block, then over the blocks in order. Where blocks
// begin depends on the sizes alone, so results do not depend on the number of threads.
#include "glu.h"

#include "activations.h"
#include "integers.h"
#include "pieces.h"
#include "scratch.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kPanel = 512;     // columns a task
constexpr std::int64_t kSumRows = 32;    // least number of rows a block of the first stage
constexpr std::int64_t kSumBlocks = 64;  // largest number of such blocks

template <typename T, typename A>
void forward_row(const T* left, const T* gate, const A* left_bias, const A* gate_bias, std::int64_t columns, T* out) {
  A left_buffer[kPiece], gate_buffer[kPiece], out_buffer[kPiece];
  for (std::int64_t c = 0; c < columns; c += kPiece) {
    const std::int64_t count = smaller(kPiece, columns - c);
    const A* from = read_piece(left + c, count, left_buffer);
    const A* by = read_piece(gate + c, count, gate_buffer);
    A* to = begin_piece(out + c, count, out_buffer);
    for (int i = 0; i < kPiece; i += Vector<A>::lanes) {
      const auto share = logistic(load(by + i) + load(gate_bias + c + i)).value;
      store(to + i, (load(from + i) + load(left_bias + c + i)) * share);
    }
    end_piece(to, count, out + c);
  }
}

template <typename T, typename A>
bool forward(const GluForward& call, int threads) {
  const GluShape& shape = call.shape;
  const std::int64_t padded = ceil_div(shape.columns, kPiece) * kPiece;
  A* const left_bias = allocate<A>(2 * padded);
  if (left_bias == nullptr) return false;
  A* const gate_bias = left_bias + padded;
  load_bias<T>(call.left_bias, shape.columns, left_bias);
  load_bias<T>(call.gate_bias, shape.columns, gate_bias);

  const std::int64_t panels = ceil_div(shape.columns, kPanel), tasks = shape.rows * panels;
  const int most = static_cast<int>(smaller(tasks, threads));
#pragma omp parallel for schedule(static, 1) num_threads(most) if (most > 1)
  for (int part = 0; part < most; ++part) {
    for (std::int64_t task = tasks * part / most; task < tasks * (part + 1) / most; ++task) {
      const std::int64_t row = task / panels, column = task % panels * kPanel;
      forward_row(at<const T>(call.left, row, column), at<const T>(call.gate, row, column), left_bias + column,
                  gate_bias + column, smaller(kPanel, shape.columns - column), at<T>(call.out, row, column));
    }
  }
  free(left_bias);
  return true;
}

// A panel of one row: inputs, and where its gradients go, null where they are not wanted.
template <typename T>
struct BackwardRow {
  const T *grad, *out, *gate;
  T *d_left, *d_gate;
};

template <typename T, typename A>
void backward_row(const BackwardRow<T>& row, const A* gate_bias, std::int64_t columns, A* left_sums, A* gate_sums) {
  A grad_buffer[kPiece], out_buffer[kPiece], gate_buffer[kPiece], d_left_buffer[kPiece], d_gate_buffer[kPiece];
  for (std::int64_t c = 0; c < columns; c += kPiece) {
    const std::int64_t count = smaller(kPiece, columns - c);
    const A* grad = read_piece(row.grad + c, count, grad_buffer);
    const A* out = read_piece(row.out + c, count, out_buffer);
    const A* gate = read_piece(row.gate + c, count, gate_buffer);
    A* d_left = row.d_left != nullptr ? begin_piece(row.d_left + c, count, d_left_buffer) : d_left_buffer;
    A* d_gate = row.d_gate != nullptr ? begin_piece(row.d_gate + c, count, d_gate_buffer) : d_gate_buffer;
    for (int i = 0; i < kPiece; i += Vector<A>::lanes) {
      const auto share = logistic(load(gate + i) + load(gate_bias + c + i));
      const auto g = load(grad + i);
      const auto to_left = g * share.value, to_gate = g * load(out + i) * share.rest;
      store(d_left + i, to_left);
      store(d_gate + i, to_gate);
      store(left_sums + c + i, load(left_sums + c + i) + to_left);
      store(gate_sums + c + i, load(gate_sums + c + i) + to_gate);
    }
    if (row.d_left != nullptr) end_piece(d_left, count, row.d_left + c);
    if (row.d_gate != nullptr) end_piece(d_gate, count, row.d_gate + c);
  }
}

template <typename T, typename A>
bool backward(const GluBackward& call, int threads) {
  const GluShape& shape = call.shape;
  const std::int64_t padded = ceil_div(shape.columns, kPiece) * kPiece;
  const std::int64_t block = larger(kSumRows, ceil_div(shape.rows, kSumBlocks));
  const std::int64_t blocks = ceil_div(shape.rows, block);
  A* const gate_bias = allocate<A>(padded * (1 + 2 * blocks));
  if (gate_bias == nullptr) return false;
  load_bias<T>(call.gate_bias, shape.columns, gate_bias);
  A* const partial = gate_bias + padded;  // [blocks, 2, padded columns]

  const std::int64_t panels = ceil_div(shape.columns, kPanel), tasks = blocks * panels;
  const int most = static_cast<int>(smaller(tasks, threads));
#pragma omp parallel for schedule(static, 1) num_threads(most) if (most > 1)
  for (int part = 0; part < most; ++part) {
    for (std::int64_t task = tasks * part / most; task < tasks * (part + 1) / most; ++task) {
      const std::int64_t b = task / panels, column = task % panels * kPanel;
      A* const left_sums = partial + 2 * b * padded + column;
      A* const gate_sums = left_sums + padded;
      for (std::int64_t c = 0; c < smaller(kPanel, padded - column); ++c) left_sums[c] = gate_sums[c] = A(0);
      for (std::int64_t row = b * block; row < smaller(shape.rows, (b + 1) * block); ++row) {
        const BackwardRow<T> rows{at<const T>(call.grad, row, column), at<const T>(call.out, row, column),
                                  at<const T>(call.gate, row, column),
                                  call.d_left.data != nullptr ? at<T>(call.d_left, row, column) : nullptr,
                                  call.d_gate.data != nullptr ? at<T>(call.d_gate, row, column) : nullptr};
        backward_row(rows, gate_bias + column, smaller(kPanel, shape.columns - column), left_sums, gate_sums);
      }
    }
  }

  void* const totals[] = {call.d_left_bias, call.d_gate_bias};
  for (int half = 0; half < 2; ++half) {
    if (totals[half] == nullptr) continue;
    A* const sums = partial + half * padded;
    for (std::int64_t b = 1; b < blocks; ++b) {
      for (std::int64_t c = 0; c < shape.columns; ++c) sums[c] += sums[2 * b * padded + c];
    }
    narrow_row(sums, static_cast<T*>(totals[half]), shape.columns);
  }
  free(gate_bias);
  return true;
}

}  // namespace

bool glu_forward(const GluForward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return forward<float, float>(call, threads);
    case DType::kFloat64:
      return forward<double, double>(call, threads);
    case DType::kBFloat16:
      return forward<BFloat16, float>(call, threads);
    case DType::kFloat16:
      return forward<Float16, float>(call, threads);
  }
  return true;
}

bool glu_backward(const GluBackward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return backward<float, float>(call, threads);
    case DType::kFloat64:
      return backward<double, double>(call, threads);
    case DType::kBFloat16:
      return backward<BFloat16, float>(call, threads);
    case DType::kFloat16:
      return backward<Float16, float>(call, threads);
  }
  return true;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
