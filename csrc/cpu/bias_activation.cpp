// bias_activation on the CPU: one pass over the rows of a matrix, a piece of a row at a time. Where a piece is not of the
// type it is computed in, or not whole, it goes through a buffer of that type; so one loop over whole vectors serves all.
//
// The bias's gradient is summed in two stages: over the rows of a block, then over the blocks in order. Where blocks begin
// depends on the sizes alone, so results do not depend on the number of threads.
#include "bias_activation.h"

#include "activations.h"
#include "integers.h"
#include "scratch.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kPiece = 64;      // elements computed together
constexpr std::int64_t kPanel = 512;     // columns a task
constexpr std::int64_t kSumRows = 32;    // least number of rows a block of the first stage
constexpr std::int64_t kSumBlocks = 64;  // largest number of such blocks

template <typename T>
inline T* at(const Matrix& x, std::int64_t row, std::int64_t column) {
  return static_cast<T*>(x.data) + row * x.stride + column;
}

// kPiece elements that begin with the `count` ones at `from`: themselves, or a copy in `buffer` filled up with zeros.
template <typename T, typename A>
inline const A* read_piece(const T* from, std::int64_t count, A* buffer) {
  if constexpr (sizeof(T) == sizeof(A)) {
    if (count == kPiece) return from;
  }
  widen_row(from, buffer, count);
  for (std::int64_t i = count; i < kPiece; ++i) buffer[i] = A(0);
  return buffer;
}

// Where to compute a piece that belongs at `to`, and how to bring it there.
template <typename T, typename A>
inline A* begin_piece(T* to, std::int64_t count, A* buffer) {
  if constexpr (sizeof(T) == sizeof(A)) {
    if (count == kPiece) return to;
  }
  return buffer;
}
template <typename T, typename A>
inline void end_piece(const A* piece, std::int64_t count, T* to) {
  if constexpr (sizeof(T) == sizeof(A)) {
    if (count == kPiece) return;
  }
  narrow_row(piece, to, count);
}

// The bias in the type of the computation, zeros where there is none and up to a multiple of kPiece.
template <typename T, typename A>
void load_bias(const void* bias, std::int64_t columns, A* to) {
  const std::int64_t padded = ceil_div(columns, kPiece) * kPiece;
  for (std::int64_t c = 0; c < padded; ++c) {
    to[c] = bias != nullptr && c < columns ? widen(static_cast<const T*>(bias)[c]) : A(0);
  }
}

template <Activation F, typename T, typename A>
void forward_row(const T* x, const A* bias, std::int64_t columns, T* out) {
  constexpr int lanes = Vector<A>::lanes;
  A x_buffer[kPiece], out_buffer[kPiece];
  for (std::int64_t c = 0; c < columns; c += kPiece) {
    const std::int64_t count = smaller(kPiece, columns - c);
    const A* from = read_piece(x + c, count, x_buffer);
    A* to = begin_piece(out + c, count, out_buffer);
    for (int i = 0; i < kPiece; i += lanes) store(to + i, activate<F, A>(load(from + i) + load(bias + c + i)));
    end_piece(to, count, out + c);
  }
}

template <Activation F, typename T, typename A>
bool forward(const BiasActivationForward& call, int threads) {
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
      forward_row<F>(at<const T>(call.x, row, column), bias + column, smaller(kPanel, shape.columns - column),
                     at<T>(call.out, row, column));
    }
  }
  free(bias);
  return true;
}

template <Activation F, typename T, typename A>
void backward_row(const T* grad, const T* x, const A* bias, std::int64_t columns, T* d_x, A* sums) {
  constexpr int lanes = Vector<A>::lanes;
  A grad_buffer[kPiece], x_buffer[kPiece], out_buffer[kPiece];
  for (std::int64_t c = 0; c < columns; c += kPiece) {
    const std::int64_t count = smaller(kPiece, columns - c);
    const A* grads = read_piece(grad + c, count, grad_buffer);
    const A* from = read_piece(x + c, count, x_buffer);
    A* to = d_x != nullptr ? begin_piece(d_x + c, count, out_buffer) : out_buffer;
    for (int i = 0; i < kPiece; i += lanes) {
      const auto d = differentiate<F, A>(load(grads + i), load(from + i) + load(bias + c + i));
      store(to + i, d);
      store(sums + c + i, load(sums + c + i) + d);
    }
    if (d_x != nullptr) end_piece(to, count, d_x + c);
  }
}

template <Activation F, typename T, typename A>
bool backward(const BiasActivationBackward& call, int threads) {
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
        backward_row<F>(at<const T>(call.grad, row, column), at<const T>(call.x, row, column), bias + column, columns,
                        d_x, sums);
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

template <Activation F>
bool forward_as(const BiasActivationForward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return forward<F, float, float>(call, threads);
    case DType::kFloat64:
      return forward<F, double, double>(call, threads);
    case DType::kBFloat16:
      return forward<F, BFloat16, float>(call, threads);
    case DType::kFloat16:
      return forward<F, Float16, float>(call, threads);
  }
  return true;
}

template <Activation F>
bool backward_as(const BiasActivationBackward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return backward<F, float, float>(call, threads);
    case DType::kFloat64:
      return backward<F, double, double>(call, threads);
    case DType::kBFloat16:
      return backward<F, BFloat16, float>(call, threads);
    case DType::kFloat16:
      return backward<F, Float16, float>(call, threads);
  }
  return true;
}

}  // namespace

bool bias_activation_forward(const BiasActivationForward& call, int threads) {
  switch (call.shape.activation) {
    case Activation::kNone:
      return forward_as<Activation::kNone>(call, threads);
    case Activation::kGelu:
      return forward_as<Activation::kGelu>(call, threads);
    case Activation::kGeluTanh:
      return forward_as<Activation::kGeluTanh>(call, threads);
    case Activation::kRelu:
      return forward_as<Activation::kRelu>(call, threads);
    case Activation::kTanh:
      return forward_as<Activation::kTanh>(call, threads);
    case Activation::kSigmoid:
      return forward_as<Activation::kSigmoid>(call, threads);
  }
  return true;
}

bool bias_activation_backward(const BiasActivationBackward& call, int threads) {
  switch (call.shape.activation) {
    case Activation::kNone:
      return backward_as<Activation::kNone>(call, threads);
    case Activation::kGelu:
      return backward_as<Activation::kGelu>(call, threads);
    case Activation::kGeluTanh:
      return backward_as<Activation::kGeluTanh>(call, threads);
    case Activation::kRelu:
      return backward_as<Activation::kRelu>(call, threads);
    case Activation::kTanh:
      return backward_as<Activation::kTanh>(call, threads);
    case Activation::kSigmoid:
      return backward_as<Activation::kSigmoid>(call, threads);
  }
  return true;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
