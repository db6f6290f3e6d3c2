// residual_norm on the CPU: a row at a time, in the type that sums are kept in. Rows of another type go through a buffer,
// and rows that are summed over are filled up with what adds nothing, so that loops over whole vectors serve all widths.
//
// Gradients of weight and bias are summed in two stages: over the rows of a block, then over the blocks in order. Where
// blocks begin depends on the sizes alone, so results do not depend on the number of threads.
#include "residual_norm.h"

#include "integers.h"
#include "philox.h"
#include "scratch.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kPiece = 64;      // rows are filled up to a multiple of it
constexpr std::int64_t kSumRows = 32;    // least number of rows a block of the first stage
constexpr std::int64_t kSumBlocks = 64;  // largest number of such blocks
constexpr int kChains = 4;               // vectors summed side by side, or each addition would wait for the last

static_assert(kPiece % kRandomPiece == 0 && kPiece % (kChains * Vector<float>::lanes) == 0);

inline std::int64_t padded(std::int64_t columns) { return ceil_div(columns, kPiece) * kPiece; }

template <typename T>
inline T* row_of(const Matrix& x, std::int64_t row) {
  return static_cast<T*>(x.data) + row * x.stride;
}

template <typename T, typename A>
constexpr bool kSame = sizeof(T) == sizeof(A);

// A row in the type of sums: itself, or a copy in `buffer`.
template <typename T, typename A>
inline const A* read_row(const T* from, std::int64_t columns, A* buffer) {
  if constexpr (kSame<T, A>) return from;
  widen_row(from, buffer, columns);
  return buffer;
}

// Likewise, filled up with zeros.
template <typename T, typename A>
inline const A* read_padded_row(const T* from, std::int64_t columns, A* buffer) {
  if constexpr (kSame<T, A>) {
    if (columns == padded(columns)) return from;
  }
  widen_row(from, buffer, columns);
  for (std::int64_t c = columns; c < padded(columns); ++c) buffer[c] = A(0);
  return buffer;
}

// Where to compute a row that belongs at `to`, and how to bring it there.
template <typename T, typename A>
inline A* begin_row(T* to, A* buffer) {
  if constexpr (kSame<T, A>) return to;
  return buffer;
}
template <typename T, typename A>
inline void end_row(const A* row, std::int64_t columns, T* to) {
  if constexpr (!kSame<T, A>) narrow_row(row, to, columns);
}

// Buffers of one thread, a row each.
template <typename A>
struct Scratch {
  A *x, *residual, *sum, *grad, *out;
  std::uint32_t* bits;

  static std::int64_t size(std::int64_t columns) { return 6 * padded(columns); }
  Scratch(A* memory, std::int64_t columns) {
    A** const rows[] = {&x, &residual, &sum, &grad, &out};
    for (A** row : rows) {
      *row = memory;
      memory += padded(columns);
    }
    bits = reinterpret_cast<std::uint32_t*>(memory);
  }
};

template <typename A>
inline A total(const typename Vector<A>::type* chains) {
  return add_lanes((chains[0] + chains[1]) + (chains[2] + chains[3]));
}

// `x` where it is kept, scaled, and 0 where it is dropped.
template <typename A>
inline A kept(A x, std::uint32_t bits, std::uint32_t threshold, A scale) {
  return bits < threshold ? A(0) : x * scale;
}

// residual + dropout(x), then zeros. Leaves the row's random bits in scratch.bits.
template <typename T, typename A>
void sum_row(const Dropout& dropout, const Matrix& x, const Matrix& residual, std::int64_t row, std::int64_t columns,
             const Scratch<A>& scratch) {
  const A* added = read_row(row_of<const T>(x, row), columns, scratch.x);
  const A* base = read_row(row_of<const T>(residual, row), columns, scratch.residual);
  for (std::int64_t c = columns; c < padded(columns); ++c) scratch.sum[c] = A(0);
  if (dropout.seed == nullptr) {
    for (std::int64_t c = 0; c < columns; ++c) scratch.sum[c] = base[c] + added[c];
    return;
  }
  const std::uint64_t first = (dropout.first_row + row) * ceil_div(columns, 4) * 4;
  random_bits(static_cast<std::uint64_t>(*dropout.seed), first, columns, scratch.bits);
  const std::uint32_t threshold = dropout.threshold;
  const A scale = static_cast<A>(dropout.scale);
  for (std::int64_t c = 0; c < columns; ++c) {
    scratch.sum[c] = base[c] + kept(added[c], scratch.bits[c], threshold, scale);
  }
}

template <typename A>
struct Moments {
  A mean;
  A rstd;
};

inline float square_root(float x) { return __builtin_sqrtf(x); }
inline double square_root(double x) { return __builtin_sqrt(x); }

// Of the `columns` first elements of a row that zeros follow. The variance is taken around a first mean, whose rounding
// the mean of those differences makes good: a row of equal numbers comes out as zeros, not as noise times 1/√eps.
template <typename A>
Moments<A> moments(A* row, std::int64_t columns, A eps) {
  using V = typename Vector<A>::type;
  constexpr int lanes = Vector<A>::lanes;
  V sums[kChains] = {};
  for (std::int64_t c = 0; c < padded(columns); c += kChains * lanes) {
    for (int i = 0; i < kChains; ++i) sums[i] += load(row + c + i * lanes);
  }
  const A first = total<A>(sums) / static_cast<A>(columns);
  for (std::int64_t c = columns; c < padded(columns); ++c) row[c] = first;
  V shifts[kChains] = {}, squares[kChains] = {};
  for (std::int64_t c = 0; c < padded(columns); c += kChains * lanes) {
    for (int i = 0; i < kChains; ++i) {
      const V difference = load(row + c + i * lanes) - first;
      shifts[i] += difference;
      squares[i] += difference * difference;
    }
  }
  const A shift = total<A>(shifts) / static_cast<A>(columns);
  const A variance = total<A>(squares) / static_cast<A>(columns) - shift * shift;
  return {first + shift, A(1) / square_root((variance < A(0) ? A(0) : variance) + eps)};
}

template <typename A>
void normalise(const A* row, Moments<A> of, const A* weight, const A* bias, std::int64_t columns, A* out) {
  for (std::int64_t c = 0; c < columns; ++c) out[c] = (row[c] - of.mean) * of.rstd * weight[c] + bias[c];
}

template <typename T>
bool forward(const ResidualNormForward& call, int threads) {
  using A = typename Accumulate<T>::type;
  const std::int64_t rows = call.shape.rows, columns = call.shape.columns;
  const int most = static_cast<int>(smaller(rows, threads));
  A* memory = allocate<A>(2 * padded(columns) + most * Scratch<A>::size(columns));
  if (memory == nullptr) return false;
  const A* weight = read_padded_row(static_cast<const T*>(call.weight), columns, memory);
  const A* bias = read_padded_row(static_cast<const T*>(call.bias), columns, memory + padded(columns));

#pragma omp parallel for schedule(static, 1) num_threads(most)
  for (int part = 0; part < most; ++part) {
    const Scratch<A> scratch(memory + 2 * padded(columns) + part * Scratch<A>::size(columns), columns);
    for (std::int64_t row = rows * part / most; row < rows * (part + 1) / most; ++row) {
      sum_row<T>(call.dropout, call.x, call.residual, row, columns, scratch);
      const Moments<A> found = moments(scratch.sum, columns, static_cast<A>(call.eps));
      static_cast<A*>(call.moments)[2 * row] = found.mean;
      static_cast<A*>(call.moments)[2 * row + 1] = found.rstd;
      A* out = begin_row(row_of<T>(call.out, row), scratch.out);
      normalise(scratch.sum, found, weight, bias, columns, out);
      end_row(out, columns, row_of<T>(call.out, row));
    }
  }
  free(memory);
  return true;
}

// The gradient of the sum that was normalised, with x̂ = (sum - mean) · rstd and h = grad · weight:
// rstd · (h - Σ h / C - x̂ · Σ (h · x̂) / C). Adds grad · x̂ to d_weight and grad to d_bias. Leaves h in `scaled`. All but
// `out` have whole pieces, those of grad and weight filled up with zeros.
template <typename A>
void differentiate(A* row, Moments<A> of, const A* grad, const A* weight, std::int64_t columns, A* scaled, A* out,
                   A* d_weight, A* d_bias) {
  using V = typename Vector<A>::type;
  constexpr int lanes = Vector<A>::lanes;
  for (std::int64_t c = columns; c < padded(columns); ++c) row[c] = of.mean;
  V sums[kChains] = {}, products[kChains] = {};
  for (std::int64_t c = 0; c < padded(columns); c += kChains * lanes) {
    for (int i = 0; i < kChains; ++i) {
      const std::int64_t at = c + i * lanes;
      const V normal = (load(row + at) - of.mean) * of.rstd, upstream = load(grad + at);
      const V h = upstream * load(weight + at);
      store(scaled + at, h);
      sums[i] += h;
      products[i] += h * normal;
      store(d_weight + at, load(d_weight + at) + upstream * normal);
      store(d_bias + at, load(d_bias + at) + upstream);
    }
  }
  const A mean = total<A>(sums) / static_cast<A>(columns), slope = total<A>(products) / static_cast<A>(columns);
  for (std::int64_t c = 0; c < columns; ++c) {
    out[c] = of.rstd * (scaled[c] - mean - (row[c] - of.mean) * of.rstd * slope);
  }
}

template <typename T, typename A>
void backward_row(const ResidualNormBackward& call, std::int64_t row, const A* weight, const Scratch<A>& scratch,
                  A* d_weight, A* d_bias) {
  const std::int64_t columns = call.shape.columns;
  sum_row<T>(call.dropout, call.x, call.residual, row, columns, scratch);
  const A* grad = read_padded_row(row_of<const T>(call.grad, row), columns, scratch.grad);
  const A* moments = static_cast<const A*>(call.moments) + 2 * row;
  T* d_residual = call.d_residual.data != nullptr ? row_of<T>(call.d_residual, row) : nullptr;
  A* out = d_residual != nullptr ? begin_row(d_residual, scratch.out) : scratch.out;
  differentiate(scratch.sum, {moments[0], moments[1]}, grad, weight, columns, scratch.x, out, d_weight, d_bias);
  if (d_residual != nullptr) end_row(out, columns, d_residual);
  if (call.d_x.data != nullptr) {
    T* d_x = row_of<T>(call.d_x, row);
    A* dropped = begin_row(d_x, scratch.residual);
    const std::uint32_t threshold = call.dropout.threshold;
    const A scale = static_cast<A>(call.dropout.scale);
    for (std::int64_t c = 0; c < columns; ++c) dropped[c] = kept(out[c], scratch.bits[c], threshold, scale);
    end_row(dropped, columns, d_x);
  }
}

template <typename T>
bool backward(const ResidualNormBackward& call, int threads) {
  using A = typename Accumulate<T>::type;
  const std::int64_t rows = call.shape.rows, columns = call.shape.columns, width = padded(columns);
  const std::int64_t block = larger(kSumRows, ceil_div(rows, kSumBlocks)), blocks = ceil_div(rows, block);
  const int most = static_cast<int>(smaller(blocks, threads));
  A* memory = allocate<A>(width * (1 + 2 * blocks) + most * Scratch<A>::size(columns));
  if (memory == nullptr) return false;
  const A* weight = read_padded_row(static_cast<const T*>(call.weight), columns, memory);
  A* partial = memory + width;  // [blocks, 2, padded columns]

#pragma omp parallel for schedule(static, 1) num_threads(most)
  for (int part = 0; part < most; ++part) {
    const Scratch<A> scratch(partial + 2 * blocks * width + part * Scratch<A>::size(columns), columns);
    for (std::int64_t b = blocks * part / most; b < blocks * (part + 1) / most; ++b) {
      A* sums = partial + 2 * b * width;
      for (std::int64_t c = 0; c < 2 * width; ++c) sums[c] = A(0);
      for (std::int64_t row = b * block; row < smaller(rows, (b + 1) * block); ++row) {
        backward_row<T>(call, row, weight, scratch, sums, sums + width);
      }
    }
  }

  const std::int64_t pieces = 2 * width / kPiece;
#pragma omp parallel for schedule(static) num_threads(static_cast<int>(smaller(pieces, most)))
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    A* sums = partial + piece * kPiece;
    for (std::int64_t b = 1; b < blocks; ++b) {
      for (std::int64_t c = 0; c < kPiece; ++c) sums[c] += sums[2 * b * width + c];
    }
  }
  if (call.d_weight != nullptr) narrow_row(partial, static_cast<T*>(call.d_weight), columns);
  if (call.d_bias != nullptr) narrow_row(partial + width, static_cast<T*>(call.d_bias), columns);
  free(memory);
  return true;
}

}  // namespace

bool residual_norm_forward(const ResidualNormForward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return forward<float>(call, threads);
    case DType::kFloat64:
      return forward<double>(call, threads);
    case DType::kBFloat16:
      return forward<BFloat16>(call, threads);
    case DType::kFloat16:
      return forward<Float16>(call, threads);
  }
  return true;
}

bool residual_norm_backward(const ResidualNormBackward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return backward<float>(call, threads);
    case DType::kFloat64:
      return backward<double>(call, threads);
    case DType::kBFloat16:
      return backward<BFloat16>(call, threads);
    case DType::kFloat16:
      return backward<Float16>(call, threads);
  }
  return true;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
