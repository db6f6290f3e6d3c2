// bias_activation on the CPU: one pass over the rows of a matrix, a piece of a row at a time (pieces.h). The loop over a
// piece knows the activation, what surrounds it knows the dtype, and they meet in a call through a pointer: compiled
// for every pair they would take three times as long to build.
//
// The bias's gradient is summed in two stages: over the rows of a block, then over the blocks in order. Where blocks begin
// depends on the sizes alone, so results do not depend on the number of threads.
#include "bias_activation.h"

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

// What is done with the kPiece elements of a piece: out = activation(x + bias), and for its gradient d = grad times the
// derivative there, which is also added to `sums`.
template <typename A>
using ForwardPiece = void (*)(const A* x, const A* bias, A* out);
template <typename A>
using BackwardPiece = void (*)(const A* grad, const A* x, const A* bias, A* d, A* sums);

template <Activation F, typename A>
void forward_piece(const A* x, const A* bias, A* out) {
  for (int i = 0; i < kPiece; i += Vector<A>::lanes) store(out + i, activate<F, A>(load(x + i) + load(bias + i)));
}

template <Activation F, typename A>
void backward_piece(const A* grad, const A* x, const A* bias, A* d, A* sums) {
  for (int i = 0; i < kPiece; i += Vector<A>::lanes) {
    const auto slope = differentiate<F, A>(load(grad + i), load(x + i) + load(bias + i));
    store(d + i, slope);
    store(sums + i, load(sums + i) + slope);
  }
}

template <typename T, typename A>
void forward_row(ForwardPiece<A> compute, const T* x, const A* bias, std::int64_t columns, T* out) {
  A x_buffer[kPiece], out_buffer[kPiece];
  for (std::int64_t c = 0; c < columns; c += kPiece) {
    const std::int64_t count = smaller(kPiece, columns - c);
    const A* from = read_piece(x + c, count, x_buffer);
    A* to = begin_piece(out + c, count, out_buffer);
    compute(from, bias + c, to);
    end_piece(to, count, out + c);
  }
}

template <typename T, typename A>
bool forward(const BiasActivationForward& call, ForwardPiece<A> compute, int threads) {
  const BiasActivationShape& shape = call.shape;
  A* bias = allocate<A>(ceil_div(shape.columns, kPiece) * kPiece);
  if (bias == nullptr) return false;
  load_bias<T>(call.bias, shape.columns, bias);

  const std::int64_t panels = ceil_div(shape.columns, kPanel), tasks = shape.rows * panels;
  const int most = static_cast<int>(smaller(tasks, threads));
#pragma omp parallel for schedule(static, 1) num_threads(most)
  for (int part = 0; part < most; ++part) {
    for (std::int64_t task = tasks * part / most; task < tasks * (part + 1) / most; ++task) {
      const std::int64_t row = task / panels, column = task % panels * kPanel;
      forward_row(compute, at<const T>(call.x, row, column), bias + column, smaller(kPanel, shape.columns - column),
                  at<T>(call.out, row, column));
    }
  }
  free(bias);
  return true;
}

template <typename T, typename A>
void backward_row(BackwardPiece<A> compute, const T* grad, const T* x, const A* bias, std::int64_t columns, T* d_x,
                  A* sums) {
  A grad_buffer[kPiece], x_buffer[kPiece], out_buffer[kPiece];
  for (std::int64_t c = 0; c < columns; c += kPiece) {
    const std::int64_t count = smaller(kPiece, columns - c);
    const A* grads = read_piece(grad + c, count, grad_buffer);
    const A* from = read_piece(x + c, count, x_buffer);
    A* to = d_x != nullptr ? begin_piece(d_x + c, count, out_buffer) : out_buffer;
    compute(grads, from, bias + c, to, sums + c);
    if (d_x != nullptr) end_piece(to, count, d_x + c);
  }
}

template <typename T, typename A>
bool backward(const BiasActivationBackward& call, BackwardPiece<A> compute, int threads) {
  const BiasActivationShape& shape = call.shape;
  const std::int64_t padded = ceil_div(shape.columns, kPiece) * kPiece;
  const std::int64_t block = larger(kSumRows, ceil_div(shape.rows, kSumBlocks));
  const std::int64_t blocks = ceil_div(shape.rows, block);
  A* bias = allocate<A>(padded * (1 + blocks));
  if (bias == nullptr) return false;
  load_bias<T>(call.bias, shape.columns, bias);
  A* partial = bias + padded;  // [blocks, padded columns]

  const std::int64_t panels = ceil_div(shape.columns, kPanel), tasks = blocks * panels;
  const int most = static_cast<int>(smaller(tasks, threads));
#pragma omp parallel for schedule(static, 1) num_threads(most)
  for (int part = 0; part < most; ++part) {
    for (std::int64_t task = tasks * part / most; task < tasks * (part + 1) / most; ++task) {
      const std::int64_t b = task / panels, column = task % panels * kPanel;
      const std::int64_t columns = smaller(kPanel, shape.columns - column);
      A* sums = partial + b * padded + column;
      for (std::int64_t c = 0; c < smaller(kPanel, padded - column); ++c) sums[c] = A(0);
      for (std::int64_t row = b * block; row < smaller(shape.rows, (b + 1) * block); ++row) {
        T* d_x = call.d_x.data != nullptr ? at<T>(call.d_x, row, column) : nullptr;
        backward_row(compute, at<const T>(call.grad, row, column), at<const T>(call.x, row, column), bias + column,
                     columns, d_x, sums);
      }
    }
  }

  if (call.d_bias != nullptr) {
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(smaller(panels, threads)))
    for (std::int64_t panel = 0; panel < panels; ++panel) {
      const std::int64_t first = panel * kPanel, last = smaller(shape.columns, first + kPanel);
      for (std::int64_t b = 1; b < blocks; ++b) {
        for (std::int64_t c = first; c < last; ++c) partial[c] += partial[b * padded + c];
      }
      narrow_row(partial + first, static_cast<T*>(call.d_bias) + first, last - first);
    }
  }
  free(bias);
  return true;
}

template <typename A>
ForwardPiece<A> forward_of(Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return forward_piece<Activation::kNone, A>;
    case Activation::kGelu:
      return forward_piece<Activation::kGelu, A>;
    case Activation::kGeluTanh:
      return forward_piece<Activation::kGeluTanh, A>;
    case Activation::kRelu:
      return forward_piece<Activation::kRelu, A>;
    case Activation::kTanh:
      return forward_piece<Activation::kTanh, A>;
    case Activation::kSigmoid:
      return forward_piece<Activation::kSigmoid, A>;
    case Activation::kLeakyRelu:
      return forward_piece<Activation::kLeakyRelu, A>;
    case Activation::kElu:
      return forward_piece<Activation::kElu, A>;
    case Activation::kSwish:
      return forward_piece<Activation::kSwish, A>;
  }
  return nullptr;
}

template <typename A>
BackwardPiece<A> backward_of(Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return backward_piece<Activation::kNone, A>;
    case Activation::kGelu:
      return backward_piece<Activation::kGelu, A>;
    case Activation::kGeluTanh:
      return backward_piece<Activation::kGeluTanh, A>;
    case Activation::kRelu:
      return backward_piece<Activation::kRelu, A>;
    case Activation::kTanh:
      return backward_piece<Activation::kTanh, A>;
    case Activation::kSigmoid:
      return backward_piece<Activation::kSigmoid, A>;
    case Activation::kLeakyRelu:
      return backward_piece<Activation::kLeakyRelu, A>;
    case Activation::kElu:
      return backward_piece<Activation::kElu, A>;
    case Activation::kSwish:
      return backward_piece<Activation::kSwish, A>;
  }
  return nullptr;
}

}  // namespace

bool bias_activation_forward(const BiasActivationForward& call, int threads) {
  const Activation activation = call.shape.activation;
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return forward<float>(call, forward_of<float>(activation), threads);
    case DType::kFloat64:
      return forward<double>(call, forward_of<double>(activation), threads);
    case DType::kBFloat16:
      return forward<BFloat16>(call, forward_of<float>(activation), threads);
    case DType::kFloat16:
      return forward<Float16>(call, forward_of<float>(activation), threads);
  }
  return true;
}

bool bias_activation_backward(const BiasActivationBackward& call, int threads) {
  const Activation activation = call.shape.activation;
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return backward<float>(call, backward_of<float>(activation), threads);
    case DType::kFloat64:
      return backward<double>(call, backward_of<double>(activation), threads);
    case DType::kBFloat16:
      return backward<BFloat16>(call, backward_of<float>(activation), threads);
    case DType::kFloat16:
      return backward<Float16>(call, backward_of<float>(activation), threads);
  }
  return true;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
