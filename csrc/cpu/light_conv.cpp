// light_conv on the CPU. A thread walks its tokens in tiles. For each tile it
//   1. turns the logits of all tokens into weights, taps down and tokens across (so that softmax runs on whole vectors),
//   2. adds up weight × row for each token, all heads of a token before the next, so that memory is read and written as it
//      lies; a few tokens at a time, which read almost the same rows, with the sums of a strip of channels in registers.
// The backward pass does the second step twice: gradients of values gather weight × gradient row from the tokens that read
// them, gradients of logits are products of gradient and value rows. These are left as whole vectors of partial sums until
// there are as many tokens as a vector has lanes: then all of their lanes are added up, and the softmax differentiated, at
// once. Nothing is scattered, so results never depend on threads.
#include "light_conv.h"

#include "columns.h"
#include "integers.h"
#include "scratch.h"
#include "segments.h"
#include "transpose.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// Tokens of one sequence handled together. Backward computes weights for K - 1 tokens more: so its tiles are larger.
constexpr std::int64_t kForwardTile = 32, kBackwardTile = 64;
constexpr int kTogether = kVectorBytes == 64 ? 4 : 2;  // tokens whose sums are in registers together
constexpr int kStrip = 4;                              // vectors of channels that are, too

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
  A* weights;        // [H, K, columns]
  A* products;       // [K, lanes, lanes]: of each tap and token a vector of partial sums
  A* d_logits;       // [K, lanes]
  A* values;         // [tile + 2·(K - 1), H, D], only where rows cannot be read in place
  A* grads;          // [tile + 2·(K - 1), H, D]
  A* sums;           // [kTogether, D]
  std::int64_t columns;
};

template <typename T>
inline T* row_of(const Operand& x, std::int64_t batch, std::int64_t token, std::int64_t head) {
  return static_cast<T*>(x.data) + batch * x.batch + token * x.token + head * x.head;
}

// Rows of tokens first ≤ t < last.
template <typename T, typename A>
inline Rows<A> rows(const Operand& x, std::int64_t batch, std::int64_t first, std::int64_t last, std::int64_t heads,
                    std::int64_t width, A* copy) {
  if constexpr (sizeof(T) == sizeof(A)) {
    return {row_of<T>(x, batch, 0, 0), x.token, x.head};
  } else {
    for (std::int64_t t = first; t < last; ++t) {
      for (std::int64_t h = 0; h < heads; ++h) {
        widen_row(row_of<T>(x, batch, t, h), copy + ((t - first) * heads + h) * width, width);
      }
    }
    return {copy - first * heads * width, heads * width, width};
  }
}

template <typename A>
inline std::int64_t whole_vectors(std::int64_t columns) {
  return ceil_div(columns, Vector<A>::lanes) * Vector<A>::lanes;
}

// Softmax over the K taps of the first `count` columns, rounded up to whole vectors.
template <typename A>
void softmax_columns(A* weights, std::int64_t taps, std::int64_t columns, std::int64_t count) {
  using V = typename Vector<A>::type;
  for (std::int64_t c = 0; c < count; c += Vector<A>::lanes) {
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

// Weights of tokens first ≤ t < last into [H, K, columns], column t - first. Columns beyond, as far as whole vectors go,
// hold harmless numbers.
template <typename T, typename A>
void load_weights(const LightConvShape& shape, const Operand& logits, std::int64_t batch, std::int64_t first,
                  std::int64_t last, std::int64_t columns, A* weights) {
  const std::int64_t taps = shape.taps, count = last - first;
  for (std::int64_t h = 0; h < shape.heads; ++h) {
    A* to = weights + h * taps * columns;
    rows_to_columns(row_of<const T>(logits, batch, first, h), logits.token, count, taps, to, columns);
    for (std::int64_t k = 0; k < taps; ++k) {
      for (std::int64_t c = count; c < whole_vectors<A>(count); ++c) to[k * columns + c] = A(0);
    }
  }
  // after all heads: loads of whole vectors have to wait until the parts stored last have left the store buffer
  for (std::int64_t h = 0; h < shape.heads && shape.softmax; ++h) {
    softmax_columns(weights + h * taps * columns, taps, columns, count);
  }
}

// What neighbouring tokens of one head are summed from. Tap k of neighbour p has weight weights[p · next + k · step] and
// row rows[(p + k) · stride]. Strides may be negative.
template <typename A>
struct Window {
  const A* weights;
  std::int64_t next, step;
  const A* rows;
  std::int64_t stride;
};

// Calls row(r, first, last) for the rows of P neighbours with K ≥ P - 1 taps each: neighbours first ≤ p < last have r in
// their window, as tap r - p. The last two arguments are constants once it is inlined.
template <int P, typename Row>
__attribute__((always_inline)) inline void for_each_row(std::int64_t taps, Row row) {
#pragma GCC unroll 4
  for (int r = 0; r < P - 1; ++r) row(r, 0, r + 1);
  for (std::int64_t r = P - 1; r < taps; ++r) row(r, 0, P);
#pragma GCC unroll 4
  for (int p = 1; p < P; ++p) row(taps + p - 1, p, P);
}

// to[p · to_stride] = Σ_k weight · row for P neighbours and N vectors of channels.
template <int N, int P, typename A>
inline void weighted_strip(const Window<A>& window, std::int64_t taps, std::int64_t channel, A* to,
                           std::int64_t to_stride) {
  constexpr int lanes = Vector<A>::lanes;
  using V = typename Vector<A>::type;
  V sums[P][N] = {};
  for_each_row<P>(taps, [&](std::int64_t r, int first, int last) __attribute__((always_inline)) {
    const A* row = window.rows + r * window.stride + channel;
    V x[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) x[n] = load(row + n * lanes);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      if (p < first || p >= last) continue;
      const A weight = window.weights[p * window.next + (r - p) * window.step];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[p][n] += x[n] * weight;
    }
  });
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) store(to + p * to_stride + channel + n * lanes, sums[p][n]);
  }
}

template <int P, typename A>
inline void weighted_rows(const Window<A>& window, std::int64_t taps, A* to, std::int64_t to_stride,
                          std::int64_t width) {
  constexpr int lanes = Vector<A>::lanes;
  std::int64_t d = 0;
  for (; d + kStrip * lanes <= width; d += kStrip * lanes) weighted_strip<kStrip, P>(window, taps, d, to, to_stride);
  switch ((width - d) / lanes) {
    case 3:
      weighted_strip<3, P>(window, taps, d, to, to_stride);
      break;
    case 2:
      weighted_strip<2, P>(window, taps, d, to, to_stride);
      break;
    case 1:
      weighted_strip<1, P>(window, taps, d, to, to_stride);
  }
  for (d = width / lanes * lanes; d < width; ++d) {
    for (int p = 0; p < P; ++p) {
      A sum = 0;
      for (std::int64_t k = 0; k < taps; ++k) {
        sum += window.weights[p * window.next + k * window.step] * window.rows[(p + k) * window.stride + d];
      }
      to[p * to_stride + d] = sum;
    }
  }
}

// The same into rows of the storage type; `sums` [P, D] is scratch.
template <int P, typename T, typename A>
inline void write_sums(const Window<A>& window, std::int64_t taps, T* to, std::int64_t to_stride, std::int64_t width,
                       A* sums) {
  if constexpr (sizeof(T) == sizeof(A)) {
    weighted_rows<P>(window, taps, to, to_stride, width);
  } else {
    weighted_rows<P>(window, taps, sums, width, width);
    for (int p = 0; p < P; ++p) narrow_row(sums + p * width, to + p * to_stride, width);
  }
}

// products[k, p] = grad_p · row_(p + k), lane by lane, for P neighbours and N vectors of channels; added to what is there
// if not the first.
template <int N, int P, typename A>
inline void product_strip(const A* grads, std::int64_t grads_stride, const A* values, std::int64_t values_stride,
                          std::int64_t taps, bool first_strip, A* products) {
  constexpr int lanes = Vector<A>::lanes;
  using V = typename Vector<A>::type;
  V grad[P][N];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) grad[p][n] = load(grads + p * grads_stride + n * lanes);
  }
  for_each_row<P>(taps, [&](std::int64_t r, int first, int last) __attribute__((always_inline)) {
    const A* row = values + r * values_stride;
    V x[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) x[n] = load(row + n * lanes);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      if (p < first || p >= last) continue;
      A* to = products + ((r - p) * lanes + p) * lanes;
      V sum = first_strip ? V{} : load(to);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum += grad[p][n] * x[n];
      store(to, sum);
    }
  });
}

// The same for all D channels.
template <int P, typename A>
inline void product_rows(const A* grads, std::int64_t grads_stride, const A* values, std::int64_t values_stride,
                         std::int64_t taps, std::int64_t width, A* products) {
  constexpr int lanes = Vector<A>::lanes;
  std::int64_t d = 0;
  for (; d + kStrip * lanes <= width; d += kStrip * lanes) {
    product_strip<kStrip, P>(grads + d, grads_stride, values + d, values_stride, taps, d == 0, products);
  }
  switch ((width - d) / lanes) {
    case 3:
      product_strip<3, P>(grads + d, grads_stride, values + d, values_stride, taps, d == 0, products);
      break;
    case 2:
      product_strip<2, P>(grads + d, grads_stride, values + d, values_stride, taps, d == 0, products);
      break;
    case 1:
      product_strip<1, P>(grads + d, grads_stride, values + d, values_stride, taps, d == 0, products);
  }
  d = width / lanes * lanes;
  if (d == width) return;
  for (int p = 0; p < P; ++p) {
    for (std::int64_t k = 0; k < taps; ++k) {
      A* to = products + (k * lanes + p) * lanes;
      if (d == 0) store(to, typename Vector<A>::type{});
      A sum = 0;
      for (std::int64_t i = d; i < width; ++i) {
        sum += grads[p * grads_stride + i] * values[(p + k) * values_stride + i];
      }
      to[0] += sum;
    }
  }
}

template <typename T>
inline void zero_row(T* row, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) row[i] = T{};
}

inline std::int64_t left_context(const LightConvShape& shape) {
  return shape.causal ? shape.taps - 1 : (shape.taps - 1) / 2;
}

// Calls several(t) for tokens t, …, t + kTogether - 1 if all of them have their whole window, of `before` tokens before
// their own and `after` after it, in first ≤ t < last; one(t) for each token that is not among such.
template <typename Several, typename One>
inline void for_each_token(std::int64_t begin, std::int64_t end, std::int64_t first, std::int64_t last,
                           std::int64_t before, std::int64_t after, Several several, One one) {
  const bool wide = before + after + 1 >= kTogether - 1;  // as for_each_row needs it
  for (std::int64_t t = begin; t < end;) {
    if (wide && t + kTogether <= end && t - before >= first && t + kTogether + after <= last) {
      several(t);
      t += kTogether;
    } else {
      one(t);
      ++t;
    }
  }
}

// Outputs of P tokens from t on, from taps low ≤ k < high.
template <int P, typename T, typename A>
inline void convolve_tokens(const LightConvForward& call, const Segment& s, std::int64_t t, std::int64_t low,
                            std::int64_t high, const Rows<A>& values, const Scratch<A>& scratch) {
  const LightConvShape& shape = call.shape;
  const std::int64_t columns = scratch.columns, left = left_context(shape);
  for (std::int64_t h = 0; h < shape.heads; ++h) {
    const A* weights = scratch.weights + (h * shape.taps + low) * columns + t - s.token;
    const Window<A> window{weights, 1, columns, values.at(t - left + low, h), values.token};
    T* out = row_of<T>(call.out, s.batch, t, h);
    write_sums<P>(window, high - low, out, call.out.token, shape.width, scratch.sums);
  }
}

template <typename T, typename A>
void forward_tile(const LightConvForward& call, const Segment& s, const Scratch<A>& scratch) {
  const LightConvShape& shape = call.shape;
  const std::int64_t taps = shape.taps, left = left_context(shape), right = taps - 1 - left;
  const std::int64_t real_end = smaller(s.token + s.count, s.end);
  if (s.token < real_end) {
    load_weights<T>(shape, call.logits, s.batch, s.token, real_end, scratch.columns, scratch.weights);
    const std::int64_t first = larger(s.begin, s.token - left), last = smaller(s.end, real_end + right);
    const Rows<A> values = rows<T, A>(call.values, s.batch, first, last, shape.heads, shape.width, scratch.values);
    for_each_token(
        s.token, real_end, s.begin, s.end, left, right,
        [&](std::int64_t t) { convolve_tokens<kTogether, T>(call, s, t, 0, taps, values, scratch); },
        [&](std::int64_t t) {
          const std::int64_t low = larger(0, s.begin - t + left), high = smaller(taps, s.end - t + left);
          convolve_tokens<1, T>(call, s, t, low, high, values, scratch);
        });
  }
  for (std::int64_t t = larger(s.token, s.end); t < s.token + s.count; ++t) {
    for (std::int64_t h = 0; h < shape.heads; ++h) zero_row(row_of<T>(call.out, s.batch, t, h), shape.width);
  }
}

// One tile of the backward pass: its segment, the first token that has weights, and rows of gradients and values.
template <typename T, typename A>
struct BackwardTile {
  const LightConvBackward& call;
  const Segment& s;
  const Scratch<A>& scratch;
  std::int64_t left, first_token;
  Rows<A> grads, values;

  const A* weights(std::int64_t t, std::int64_t h) const {
    return scratch.weights + h * call.shape.taps * scratch.columns + t - first_token;
  }

  // Gradients of the values of P tokens from t on, from taps low ≤ k < high: reader t + left - k used tap k of its own. One
  // step down the taps is one step back in tokens, and so it goes from the last of the P tokens to the first.
  template <int P>
  void value_gradients(std::int64_t t, std::int64_t low, std::int64_t high) const {
    const std::int64_t last = t + P - 1, reader = last + left - low, columns = scratch.columns;
    for (std::int64_t h = 0; h < call.shape.heads; ++h) {
      const A* first_weight = weights(reader, h) + low * columns;
      const Window<A> window{first_weight, -1, columns - 1, grads.at(reader, h), -grads.token};
      T* out = row_of<T>(call.d_values, s.batch, last, h);
      write_sums<P>(window, high - low, out, -call.d_values.token, call.shape.width, scratch.sums);
    }
  }

  // Products of the gradients of P tokens from t on with the values that they read, into columns from `column` on.
  template <int P>
  void products(std::int64_t t, std::int64_t head, std::int64_t low, std::int64_t high, std::int64_t column) const {
    constexpr int lanes = Vector<A>::lanes;
    product_rows<P>(grads.at(t, head), grads.token, values.at(t - left + low, head), values.token, high - low,
                    call.shape.width, scratch.products + (low * lanes + column) * lanes);
  }

  // Gradients of the logits of tokens begin ≤ t < end of one head, no more than a vector has lanes.
  void logit_gradients(std::int64_t begin, std::int64_t end, std::int64_t head) const {
    constexpr int lanes = Vector<A>::lanes;
    using V = typename Vector<A>::type;
    const std::int64_t taps = call.shape.taps;
    for_each_token(
        begin, end, s.begin, s.end, left, taps - 1 - left,
        [&](std::int64_t t) { products<kTogether>(t, head, 0, taps, t - begin); },
        [&](std::int64_t t) {
          const std::int64_t low = larger(0, s.begin - t + left), high = smaller(taps, s.end - t + left);
          for (std::int64_t k = 0; k < taps; ++k) {
            if (k < low || k >= high) store(scratch.products + (k * lanes + t - begin) * lanes, V{});
          }
          products<1>(t, head, low, high, t - begin);
        });
    const A* weight = weights(begin, head);
    V mean{};
    for (std::int64_t k = 0; k < taps; ++k) {
      const V d_weight = add_lanes_of_all(scratch.products + k * lanes * lanes);
      store(scratch.d_logits + k * lanes, d_weight);
      mean += d_weight * load(weight + k * scratch.columns);
    }
    for (std::int64_t k = 0; k < taps && call.shape.softmax; ++k) {
      A* d_logit = scratch.d_logits + k * lanes;
      store(d_logit, load(weight + k * scratch.columns) * (load(d_logit) - mean));
    }
    columns_to_rows(scratch.d_logits, lanes, end - begin, taps, row_of<T>(call.d_logits, s.batch, begin, head),
                    call.d_logits.token);
  }
};

template <typename T, typename A>
void backward_tile(const LightConvBackward& call, const Segment& s, const Scratch<A>& scratch) {
  const LightConvShape& shape = call.shape;
  const std::int64_t width = shape.width, taps = shape.taps, heads = shape.heads;
  const std::int64_t left = left_context(shape), right = taps - 1 - left;
  const std::int64_t real_end = smaller(s.token + s.count, s.end);
  if (s.token < real_end) {
    // Tokens that read a value of this tile, and its own.
    const std::int64_t first_token = larger(s.begin, s.token - right), last_token = smaller(s.end, real_end + left);
    load_weights<T>(shape, call.logits, s.batch, first_token, last_token, scratch.columns, scratch.weights);
    const std::int64_t first = larger(s.begin, s.token - left), last = smaller(s.end, real_end + right);
    const BackwardTile<T, A> tile{call,
                                  s,
                                  scratch,
                                  left,
                                  first_token,
                                  rows<T, A>(call.grad, s.batch, first_token, last_token, heads, width, scratch.grads),
                                  rows<T, A>(call.values, s.batch, first, last, heads, width, scratch.values)};
    for (std::int64_t begin = s.token; begin < real_end; begin += Vector<A>::lanes) {
      const std::int64_t end = smaller(begin + Vector<A>::lanes, real_end);
      for_each_token(
          begin, end, s.begin, s.end, right, left,
          [&](std::int64_t t) { tile.template value_gradients<kTogether>(t, 0, taps); },
          [&](std::int64_t t) {
            const std::int64_t low = larger(0, t + left - s.end + 1), high = smaller(taps, t + left - s.begin + 1);
            tile.template value_gradients<1>(t, low, high);
          });
      for (std::int64_t h = 0; h < heads; ++h) tile.logit_gradients(begin, end, h);
    }
  }
  for (std::int64_t t = larger(s.token, s.end); t < s.token + s.count; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      zero_row(row_of<T>(call.d_values, s.batch, t, h), width);
      zero_row(row_of<T>(call.d_logits, s.batch, t, h), taps);
    }
  }
}

// Gives each thread a run of tiles of `size` tokens and calls `tile` on each segment in it. False: out of memory.
template <typename T, typename A, typename Call, typename Tile>
bool for_each_tile(const Call& call, std::int64_t size, int threads, Tile tile) {
  constexpr int lanes = Vector<A>::lanes;
  const LightConvShape& shape = call.shape;
  const std::int64_t tokens = flat_tokens(shape.sequences), tiles = ceil_div(tokens, size);
  const std::int64_t window = size + shape.taps - 1;
  // a vector of columns may begin at any token of the tile
  const std::int64_t columns = whole_vectors<A>(window + lanes - 1);
  const std::int64_t weights = shape.heads * shape.taps * columns, products = shape.taps * lanes * lanes;
  const std::int64_t copy = sizeof(T) == sizeof(A) ? 0 : window * shape.heads * shape.width;
  const std::int64_t count = weights + products + shape.taps * lanes + 2 * copy + kTogether * shape.width;
  const int most = static_cast<int>(smaller(tiles, threads));
  bool exhausted = false;
#pragma omp parallel for schedule(static, 1) num_threads(most) reduction(|| : exhausted)
  for (int part = 0; part < most; ++part) {
    A* memory = allocate<A>(count);
    if (memory == nullptr) {
      exhausted = true;
      continue;
    }
    Scratch<A> scratch;
    scratch.columns = columns;
    scratch.weights = memory;
    scratch.products = scratch.weights + weights;
    scratch.d_logits = scratch.products + products;
    scratch.values = scratch.d_logits + shape.taps * lanes;
    scratch.grads = scratch.values + copy;
    scratch.sums = scratch.grads + copy;
    const std::int64_t last = smaller(tokens, tiles * (part + 1) / most * size);
    for (std::int64_t flat = tiles * part / most * size; flat < last;) {
      // Up to the end of the tile: tokens then have the same neighbours in their group, and so the same roundings, whatever
      // the threads. (Compilers may fuse either product of a sum.)
      const Segment s = segment_at(shape.sequences, flat, smaller(size - flat % size, last - flat));
      tile(call, s, scratch);
      flat += s.count;
    }
    free(memory);
  }
  return !exhausted;
}

template <typename T, typename A>
bool forward(const LightConvForward& call, int threads) {
  return for_each_tile<T, A>(call, kForwardTile, threads, forward_tile<T, A>);
}

template <typename T, typename A>
bool backward(const LightConvBackward& call, int threads) {
  return for_each_tile<T, A>(call, kBackwardTile, threads, backward_tile<T, A>);
}

}  // namespace

bool light_conv_forward(const LightConvForward& call, int threads) {
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

bool light_conv_backward(const LightConvBackward& call, int threads) {
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
