// light_conv on the CPU. A thread walks its tokens in tiles. For each tile it
//   1. turns the logits of all tokens into weights, taps down and tokens across (so that softmax runs on whole vectors),
//   2. adds up weight × row for each token, all heads of a token before the next, so that memory is read and written as it
//      lies; two tokens at a time, which read almost the same rows, with the sums of a strip of channels in registers.
// The backward pass is the same twice: gradients of values gather weight × gradient row from the tokens that read them,
// gradients of logits are products of gradient and value rows. Nothing is scattered, so results never depend on threads.
#include "light_conv.h"

#include <cstdlib>

#include "segments.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kTile = 32;  // tokens of one sequence handled together

// Rows of D numbers, one a token and head: straight from memory, or a widened copy of those a tile needs.
template <typename A>
struct Rows {
  const A* base;
  std::int64_t token, head;  // strides
  const A* at(std::int64_t t, std::int64_t h) const { return base + t * token + h * head; }
};

// The largest a thread needs at a time; allocated once a thread and call.
template <typename A>
struct Scratch {
  A* weights;    // [H, K, columns]
  A* d_weights;  // [K]
  A* values;     // [tile + 2·(K - 1), H, D], only where rows cannot be read in place
  A* grads;      // [tile + 2·(K - 1), H, D]
  A* sums;       // [2, D]
};

template <typename T, typename A>
inline const T* head_of(const Operand& x, std::int64_t batch, std::int64_t head) {
  return static_cast<const T*>(x.data) + batch * x.batch + head * x.head;
}

template <typename T>
inline T* row_of(const Operand& x, std::int64_t batch, std::int64_t token, std::int64_t head) {
  return static_cast<T*>(x.data) + batch * x.batch + token * x.token + head * x.head;
}

// Rows of tokens first ≤ t < last.
template <typename T, typename A>
inline Rows<A> rows(const Operand& x, std::int64_t batch, std::int64_t first, std::int64_t last, std::int64_t heads,
                    std::int64_t width, A* copy) {
  if constexpr (sizeof(T) == sizeof(A)) {
    return {head_of<T, A>(x, batch, 0), x.token, x.head};
  } else {
    for (std::int64_t t = first; t < last; ++t) {
      for (std::int64_t h = 0; h < heads; ++h) {
        widen_row(row_of<T>(x, batch, t, h), copy + ((t - first) * heads + h) * width, width);
      }
    }
    return {copy - first * heads * width, heads * width, width};
  }
}

inline float* in_place(float* row, float*) { return row; }
inline double* in_place(double* row, double*) { return row; }
template <typename T>
inline float* in_place(T*, float* row) {
  return row;
}
inline void finish(float*, const float*, std::int64_t) {}
inline void finish(double*, const double*, std::int64_t) {}
template <typename T>
inline void finish(T* to, const float* row, std::int64_t width) {
  narrow_row(row, to, width);
}

// Softmax over the K taps of each column. `columns` is a multiple of the vector's lanes.
template <typename A>
void softmax_columns(A* weights, std::int64_t taps, std::int64_t columns) {
  using V = typename Vector<A>::type;
  for (std::int64_t c = 0; c < columns; c += Vector<A>::lanes) {
    V most = load(weights + c);
    for (std::int64_t k = 1; k < taps; ++k) {
      const V x = load(weights + k * columns + c);
      most = x > most ? x : most;
    }
    V sum{};
    for (std::int64_t k = 0; k < taps; ++k) {
      const V e = exp_nonpositive(load(weights + k * columns + c) - most);
      store(weights + k * columns + c, e);
      sum += e;
    }
    const V scale = A(1) / sum;
    for (std::int64_t k = 0; k < taps; ++k) {
      store(weights + k * columns + c, load(weights + k * columns + c) * scale);
    }
  }
}

// Weights of tokens first ≤ t < last of one head into [K, columns], column t - first; columns beyond hold harmless zeros.
template <typename T, typename A>
void load_weights(const T* logits, std::int64_t stride, std::int64_t first, std::int64_t last, std::int64_t taps,
                  std::int64_t columns, bool softmax, A* weights) {
  const std::int64_t count = last - first;
  for (std::int64_t k = 0; k < taps; ++k) {
    for (std::int64_t c = count; c < columns; ++c) weights[k * columns + c] = A(0);
  }
  for (std::int64_t t = 0; t < count; ++t) {
    const T* row = logits + (first + t) * stride;
    for (std::int64_t k = 0; k < taps; ++k) weights[k * columns + t] = widen(row[k]);
  }
  if (softmax) softmax_columns(weights, taps, columns);
}

// to[0..width) = Σ_{low ≤ k < high} weights[k · step] · row_k[0..width), row_k = from + k · stride, a strip of N vectors at
// a time. Strides may be negative.
template <int N, typename A>
inline void weighted_strip(const A* weights, std::int64_t step, const A* from, std::int64_t stride, std::int64_t low,
                           std::int64_t high, A* to) {
  constexpr int lanes = Vector<A>::lanes;
  typename Vector<A>::type sums[N] = {};
  for (std::int64_t k = low; k < high; ++k) {
    const A weight = weights[k * step];
    const A* row = from + k * stride;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sums[n] += load(row + n * lanes) * weight;
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) store(to + n * lanes, sums[n]);
}

template <typename A>
inline void weighted_rows(const A* weights, std::int64_t step, const A* from, std::int64_t stride, std::int64_t low,
                          std::int64_t high, A* to, std::int64_t width) {
  constexpr int lanes = Vector<A>::lanes;
  std::int64_t d = 0;
  for (; d + 4 * lanes <= width; d += 4 * lanes) {
    weighted_strip<4>(weights, step, from + d, stride, low, high, to + d);
  }
  for (; d + lanes <= width; d += lanes) weighted_strip<1>(weights, step, from + d, stride, low, high, to + d);
  for (; d < width; ++d) {
    A sum = 0;
    for (std::int64_t k = low; k < high; ++k) sum += weights[k * step] * from[k * stride + d];
    to[d] = sum;
  }
}

// The same for two neighbours at once, with all K taps: tap k of the first reads row_k, tap k of the second row_(k+1).
template <int N, typename A>
inline void weighted_pair_strip(const A* first, const A* second, std::int64_t step, const A* from, std::int64_t stride,
                                std::int64_t taps, A* to_first, A* to_second) {
  constexpr int lanes = Vector<A>::lanes;
  using V = typename Vector<A>::type;
  V a[N], b[N] = {};
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) a[n] = load(from + n * lanes) * first[0];
  for (std::int64_t k = 1; k < taps; ++k) {
    const A w = first[k * step], v = second[(k - 1) * step];
    const A* row = from + k * stride;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const V x = load(row + n * lanes);
      a[n] += x * w;
      b[n] += x * v;
    }
  }
  const A v = second[(taps - 1) * step];
  const A* row = from + taps * stride;
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    store(to_first + n * lanes, a[n]);
    store(to_second + n * lanes, b[n] + load(row + n * lanes) * v);
  }
}

template <typename A>
inline void weighted_pair(const A* first, const A* second, std::int64_t step, const A* from, std::int64_t stride,
                          std::int64_t taps, A* to_first, A* to_second, std::int64_t width) {
  constexpr int lanes = Vector<A>::lanes;
  std::int64_t d = 0;
  for (; d + 4 * lanes <= width; d += 4 * lanes) {
    weighted_pair_strip<4>(first, second, step, from + d, stride, taps, to_first + d, to_second + d);
  }
  for (; d + lanes <= width; d += lanes) {
    weighted_pair_strip<1>(first, second, step, from + d, stride, taps, to_first + d, to_second + d);
  }
  if (d < width) {
    weighted_rows(first, step, from + d, stride, 0, taps, to_first + d, width - d);
    weighted_rows(second, step, from + stride + d, stride, 0, taps, to_second + d, width - d);
  }
}

// sums[i] = Σ_d x[d] · rows[i · stride + d] for four rows.
template <typename A>
inline void four_dots(const A* x, const A* rows, std::int64_t stride, std::int64_t width, A* sums) {
  constexpr int lanes = Vector<A>::lanes;
  typename Vector<A>::type parts[4] = {};
  std::int64_t d = 0;
  for (; d + lanes <= width; d += lanes) {
    const auto v = load(x + d);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) parts[i] += v * load(rows + i * stride + d);
  }
  add_lanes_of_four(parts, sums);
  for (; d < width; ++d) {
    for (int i = 0; i < 4; ++i) sums[i] += x[d] * rows[i * stride + d];
  }
}

template <typename A>
inline A dot(const A* x, const A* y, std::int64_t width) {
  constexpr int lanes = Vector<A>::lanes;
  typename Vector<A>::type sums{};
  std::int64_t d = 0;
  for (; d + lanes <= width; d += lanes) sums += load(x + d) * load(y + d);
  A sum = add_lanes(sums);
  for (; d < width; ++d) sum += x[d] * y[d];
  return sum;
}

template <typename T>
inline void zero_row(T* row, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) row[i] = T{};
}

inline std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

inline std::int64_t left_context(const LightConvShape& shape) {
  return shape.causal ? shape.taps - 1 : (shape.taps - 1) / 2;
}

template <typename A>
inline std::int64_t padded_columns(std::int64_t tokens) {
  return (tokens + Vector<A>::lanes - 1) / Vector<A>::lanes * Vector<A>::lanes;
}

template <typename T, typename A>
void forward_tile(const LightConvForward& call, const Segment& s, const Scratch<A>& scratch) {
  const LightConvShape& shape = call.shape;
  const std::int64_t width = shape.width, taps = shape.taps, heads = shape.heads, left = left_context(shape);
  const std::int64_t real_end = smaller(s.token + s.count, s.end);
  if (s.token < real_end) {
    const std::int64_t columns = padded_columns<A>(kTile);
    for (std::int64_t h = 0; h < heads; ++h) {
      load_weights(head_of<T, A>(call.logits, s.batch, h), call.logits.token, s.token, real_end, taps, columns,
                   shape.softmax, scratch.weights + h * taps * columns);
    }
    const std::int64_t first = larger(s.begin, s.token - left);
    const std::int64_t last = smaller(s.end, real_end - left + taps - 1);
    const Rows<A> values = rows<T, A>(call.values, s.batch, first, last, heads, width, scratch.values);
    for (std::int64_t t = s.token; t < real_end;) {
      const A* weights = scratch.weights + (t - s.token);
      if (t + 1 < real_end && t - left >= s.begin && t + 1 - left + taps <= s.end) {
        for (std::int64_t h = 0; h < heads; ++h) {
          T *out = row_of<T>(call.out, s.batch, t, h), *next = row_of<T>(call.out, s.batch, t + 1, h);
          A *sums = in_place(out, scratch.sums), *next_sums = in_place(next, scratch.sums + width);
          const A* w = weights + h * taps * columns;
          weighted_pair(w, w + 1, columns, values.at(t - left, h), values.token, taps, sums, next_sums, width);
          finish(out, sums, width);
          finish(next, next_sums, width);
        }
        t += 2;
        continue;
      }
      const std::int64_t low = larger(0, s.begin - t + left), high = smaller(taps, s.end - t + left);
      for (std::int64_t h = 0; h < heads; ++h) {
        T* out = row_of<T>(call.out, s.batch, t, h);
        A* sums = in_place(out, scratch.sums);
        weighted_rows(weights + h * taps * columns, columns, values.at(t - left, h), values.token, low, high, sums, width);
        finish(out, sums, width);
      }
      ++t;
    }
  }
  for (std::int64_t t = larger(s.token, s.end); t < s.token + s.count; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) zero_row(row_of<T>(call.out, s.batch, t, h), width);
  }
}

// Gradients of the values of a tile's tokens. The weights are those of tokens from first_token on, in `columns` columns;
// reader t + left - k used tap k: one step down the taps is one step back in tokens.
template <typename T, typename A>
void value_gradients(const LightConvBackward& call, const Segment& s, std::int64_t real_end, const Rows<A>& grads,
                     std::int64_t first_token, std::int64_t last_reader, std::int64_t columns, const Scratch<A>& scratch) {
  const LightConvShape& shape = call.shape;
  const std::int64_t width = shape.width, taps = shape.taps, left = left_context(shape);
  for (std::int64_t t = s.token; t < real_end;) {
    const A* weights = scratch.weights + (t + left - first_token);
    const bool pair = t + 1 < real_end && t + 1 + left < last_reader && t + left - taps + 1 >= s.begin;
    if (pair) {
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        T *out = row_of<T>(call.d_values, s.batch, t, h), *next = row_of<T>(call.d_values, s.batch, t + 1, h);
        A *sums = in_place(out, scratch.sums), *next_sums = in_place(next, scratch.sums + width);
        const A* w = weights + h * taps * columns;
        weighted_pair(w + 1, w, columns - 1, grads.at(t + 1 + left, h), -grads.token, taps, next_sums, sums, width);
        finish(out, sums, width);
        finish(next, next_sums, width);
      }
      t += 2;
      continue;
    }
    const std::int64_t low = larger(0, t + left - last_reader + 1), high = smaller(taps, t + left - s.begin + 1);
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      T* out = row_of<T>(call.d_values, s.batch, t, h);
      A* sums = in_place(out, scratch.sums);
      weighted_rows(weights + h * taps * columns, columns - 1, grads.at(t + left, h), -grads.token, low, high, sums, width);
      finish(out, sums, width);
    }
    ++t;
  }
}

// Gradients of one token's and head's logits; `weights` is the token's column.
template <typename T, typename A>
void logit_gradients(const LightConvBackward& call, const Segment& s, std::int64_t t, std::int64_t head, const A* grad,
                     const Rows<A>& values, const A* weights, std::int64_t columns, A* d_weights) {
  const LightConvShape& shape = call.shape;
  const std::int64_t width = shape.width, taps = shape.taps, left = left_context(shape);
  const std::int64_t low = larger(0, s.begin - t + left), high = smaller(taps, s.end - t + left);
  std::int64_t k = 0;
  for (; k < low; ++k) d_weights[k] = A(0);
  for (; k + 4 <= high; k += 4) four_dots(grad, values.at(t + k - left, head), values.token, width, d_weights + k);
  for (; k < high; ++k) d_weights[k] = dot(grad, values.at(t + k - left, head), width);
  for (; k < taps; ++k) d_weights[k] = A(0);
  A mean = 0;
  if (shape.softmax) {
    for (k = 0; k < taps; ++k) mean += d_weights[k] * weights[k * columns];
  }
  T* out = row_of<T>(call.d_logits, s.batch, t, head);
  for (k = 0; k < taps; ++k) {
    narrow(shape.softmax ? weights[k * columns] * (d_weights[k] - mean) : d_weights[k], out + k);
  }
}

template <typename T, typename A>
void backward_tile(const LightConvBackward& call, const Segment& s, const Scratch<A>& scratch) {
  const LightConvShape& shape = call.shape;
  const std::int64_t width = shape.width, taps = shape.taps, heads = shape.heads, left = left_context(shape);
  const std::int64_t real_end = smaller(s.token + s.count, s.end);
  if (s.token < real_end) {
    // Tokens that read a value of this tile: those whose window holds it.
    const std::int64_t first_reader = larger(s.begin, s.token + left - taps + 1);
    const std::int64_t last_reader = smaller(s.end, real_end + left);
    const std::int64_t columns = padded_columns<A>(kTile + taps - 1);
    // In a causal window the tile's own tokens may lie outside the readers; both are needed.
    const std::int64_t first_token = smaller(first_reader, s.token), last_token = larger(last_reader, real_end);
    for (std::int64_t h = 0; h < heads; ++h) {
      load_weights(head_of<T, A>(call.logits, s.batch, h), call.logits.token, first_token, last_token, taps, columns,
                   shape.softmax, scratch.weights + h * taps * columns);
    }
    const Rows<A> grads = rows<T, A>(call.grad, s.batch, first_token, last_token, heads, width, scratch.grads);
    value_gradients<T>(call, s, real_end, grads, first_token, last_reader, columns, scratch);

    const std::int64_t first = larger(s.begin, s.token - left);
    const std::int64_t last = smaller(s.end, real_end - left + taps - 1);
    const Rows<A> values = rows<T, A>(call.values, s.batch, first, last, heads, width, scratch.values);
    for (std::int64_t t = s.token; t < real_end; ++t) {
      for (std::int64_t h = 0; h < heads; ++h) {
        const A* weights = scratch.weights + h * taps * columns + (t - first_token);
        logit_gradients<T>(call, s, t, h, grads.at(t, h), values, weights, columns, scratch.d_weights);
      }
    }
  }
  for (std::int64_t t = larger(s.token, s.end); t < s.token + s.count; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      zero_row(row_of<T>(call.d_values, s.batch, t, h), width);
      zero_row(row_of<T>(call.d_logits, s.batch, t, h), taps);
    }
  }
}

// Gives each thread a run of tiles and calls `tile` on each segment in it. False: out of memory.
template <typename T, typename A, typename Call, typename Tile>
bool for_each_tile(const Call& call, int threads, Tile tile) {
  const LightConvShape& shape = call.shape;
  const std::int64_t tokens = flat_tokens(shape.sequences), tiles = (tokens + kTile - 1) / kTile;
  const std::int64_t window = kTile + 2 * (shape.taps - 1);
  const std::int64_t columns = padded_columns<A>(window);
  const std::int64_t weights = shape.heads * shape.taps * columns;
  const std::int64_t copy = sizeof(T) == sizeof(A) ? 0 : window * shape.heads * shape.width;
  const std::int64_t bytes = sizeof(A) * (weights + shape.taps + 2 * copy + 2 * shape.width);
  const int most = static_cast<int>(tiles < threads ? tiles : threads);
  bool exhausted = false;
#pragma omp parallel for schedule(static, 1) num_threads(most) reduction(|| : exhausted)
  for (int part = 0; part < most; ++part) {
    A* memory = static_cast<A*>(std::malloc(bytes));
    if (memory == nullptr) {
      exhausted = true;
      continue;
    }
    Scratch<A> scratch;
    scratch.weights = memory;
    scratch.d_weights = scratch.weights + weights;
    scratch.values = scratch.d_weights + shape.taps;
    scratch.grads = scratch.values + copy;
    scratch.sums = scratch.grads + copy;
    const std::int64_t last = smaller(tokens, tiles * (part + 1) / most * kTile);
    for (std::int64_t flat = tiles * part / most * kTile; flat < last;) {
      const Segment s = segment_at(shape.sequences, flat, smaller(kTile, last - flat));
      tile(call, s, scratch);
      flat += s.count;
    }
    std::free(memory);
  }
  return !exhausted;
}

}  // namespace

bool light_conv_forward(const LightConvForward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return for_each_tile<float, float>(call, threads, forward_tile<float, float>);
    case DType::kFloat64:
      return for_each_tile<double, double>(call, threads, forward_tile<double, double>);
    case DType::kBFloat16:
      return for_each_tile<BFloat16, float>(call, threads, forward_tile<BFloat16, float>);
    case DType::kFloat16:
      return for_each_tile<Float16, float>(call, threads, forward_tile<Float16, float>);
  }
  return true;
}

bool light_conv_backward(const LightConvBackward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return for_each_tile<float, float>(call, threads, backward_tile<float, float>);
    case DType::kFloat64:
      return for_each_tile<double, double>(call, threads, backward_tile<double, double>);
    case DType::kBFloat16:
      return for_each_tile<BFloat16, float>(call, threads, backward_tile<BFloat16, float>);
    case DType::kFloat16:
      return for_each_tile<Float16, float>(call, threads, backward_tile<Float16, float>);
  }
  return true;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
