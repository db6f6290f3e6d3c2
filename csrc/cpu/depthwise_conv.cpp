// depthwise_conv on the CPU. Work is cut into strips of channels and blocks of tokens. The rows that a block's windows
// reach are copied to a tile, widened, with zeros for tokens outside their sequence; so one plain loop convolves, whatever
// the dtype, the strides and the bounds. The tile stays in the nearest cache while each row of it is read K times.
//
// The gradient of x is the convolution of the output's gradient with the kernels reversed. Gradients of weight and bias
// are summed in two stages: over the tokens of a block, then over the blocks in order. Where blocks begin depends on the
// sizes alone, so results do not depend on the number of threads.
#include "depthwise_conv.h"

#include "integers.h"
#include "scratch.h"
#include "segments.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kBlock = 64;       // tokens a tile
constexpr std::int64_t kGroup = 8;        // tokens whose sums are in registers together
constexpr std::int64_t kSumBlock = 256;   // least number of tokens a block of the first stage
constexpr std::int64_t kSumBlocks = 128;  // largest number of such blocks
constexpr int kTapGroup = 8;              // taps whose sums are in registers together

template <typename A>
constexpr std::int64_t kStrip = 256 / sizeof(A);  // channels a strip

template <typename T>
inline T* row_of(const Operand& x, std::int64_t batch, std::int64_t token, std::int64_t channel) {
  return static_cast<T*>(x.data) + batch * x.batch + token * x.token + channel;
}

// Copies `width` channels of one token; the row's remaining channels become zeros.
template <typename T, typename A>
inline void widen_strip(const T* from, std::int64_t width, A* to) {
  if (width == kStrip<A>) return widen_row(from, to, kStrip<A>);
  widen_row(from, to, width);
  for (std::int64_t c = width; c < kStrip<A>; ++c) to[c] = A(0);
}

// Rows of tokens first, …, first + count - 1 into `tile` [count, strip]; zeros for those outside the sequence.
template <typename T, typename A>
void load_tile(const Operand& x, const Segment& s, std::int64_t first, std::int64_t count, std::int64_t channel,
               std::int64_t width, A* tile) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t token = first + i;
    A* row = tile + i * kStrip<A>;
    if (token >= s.begin && token < s.end) {
      widen_strip(row_of<const T>(x, s.batch, token, channel), width, row);
    } else {
      for (std::int64_t c = 0; c < kStrip<A>; ++c) row[c] = A(0);
    }
  }
}

// The kernels as [strips, K, strip], widened, last tap first if `reversed`.
template <typename T, typename A>
void load_weights(const DepthwiseConvShape& shape, const Operand& weight, bool reversed, A* weights) {
  const std::int64_t taps = shape.taps, step = reversed ? -1 : 1;
  for (std::int64_t c = 0; c < shape.channels; ++c) {
    const T* row = row_of<const T>(weight, 0, c, reversed ? taps - 1 : 0);
    A* to = weights + c / kStrip<A> * kStrip<A> * taps + c % kStrip<A>;
    for (std::int64_t k = 0; k < taps; ++k) to[k * kStrip<A>] = widen(row[k * step]);
  }
  const std::int64_t used = shape.channels % kStrip<A>;  // of the last strip, 0 if all
  A* last = weights + (shape.channels - used) * taps;
  for (std::int64_t k = 0; k < taps && used > 0; ++k) {
    for (std::int64_t c = used; c < kStrip<A>; ++c) last[k * kStrip<A> + c] = A(0);
  }
}

// to[t, c] = bias[c] + Σ_k weights[k, c] · tile[t + k, c] for a group of tokens and a strip of channels.
template <typename A>
inline void convolve_group(const A* tile, const A* weights, const A* bias, std::int64_t taps, A* to,
                           std::int64_t stride) {
  using V = typename Vector<A>::type;
  for (std::int64_t c = 0; c < kStrip<A>; c += Vector<A>::lanes) {
    const V start = load(bias + c);
    V sums[kGroup];
#pragma GCC unroll 8
    for (int t = 0; t < kGroup; ++t) sums[t] = start;
    for (std::int64_t k = 0; k < taps; ++k) {
      const V weight = load(weights + k * kStrip<A> + c);
      const A* rows = tile + k * kStrip<A> + c;
#pragma GCC unroll 8
      for (int t = 0; t < kGroup; ++t) sums[t] += load(rows + t * kStrip<A>) * weight;
    }
#pragma GCC unroll 8
    for (int t = 0; t < kGroup; ++t) store(to + t * stride + c, sums[t]);
  }
}

// Where whole strips of sums may be written to directly: outputs of the type that sums are kept in.
inline float* directly(float* to) { return to; }
inline double* directly(double* to) { return to; }
inline float* directly(BFloat16*) { return nullptr; }
inline float* directly(Float16*) { return nullptr; }

template <typename T, typename A>
struct Convolution {
  const DepthwiseConvShape& shape;
  const Operand& from;
  const Operand& to;
  std::int64_t left;  // tokens before its own that a token reads
  const A* weights;   // [strips, K, strip]
  const A* bias;      // [strips, strip]

  // One segment and strip. Scratch: `tile` [kBlock + K - 1, strip], `sums` [kGroup, strip].
  void run(const Segment& s, std::int64_t strip, A* tile, A* sums) const {
    const std::int64_t taps = shape.taps, channel = strip * kStrip<A>;
    const std::int64_t width = smaller(kStrip<A>, shape.channels - channel);
    const std::int64_t real = larger(0, smaller(s.count, s.end - s.token));
    const std::int64_t groups = ceil_div(real, kGroup);
    if (groups > 0) {
      load_tile<T>(from, s, s.token - left, groups * kGroup + taps - 1, channel, width, tile);
    }
    for (std::int64_t t = 0; t < real; t += kGroup) {
      T* out = row_of<T>(to, s.batch, s.token + t, channel);
      A* whole = width == kStrip<A> && t + kGroup <= real ? directly(out) : nullptr;
      convolve_group(tile + t * kStrip<A>, weights + channel * taps, bias + channel, taps,
                     whole != nullptr ? whole : sums, whole != nullptr ? to.token : kStrip<A>);
      if (whole != nullptr) continue;
      for (std::int64_t i = 0; i < smaller(kGroup, real - t); ++i) {
        narrow_row(sums + i * kStrip<A>, out + i * to.token, width);
      }
    }
    for (std::int64_t t = real; t < s.count; ++t) {
      T* out = row_of<T>(to, s.batch, s.token + t, channel);
      for (std::int64_t c = 0; c < width; ++c) out[c] = T{};
    }
  }
};

// Convolves all of `from` into `to`. False: out of memory.
template <typename T, typename A>
bool convolve(const DepthwiseConvShape& shape, const Operand& from, const Operand& weight, const void* bias,
              bool reversed, const Operand& to, int threads) {
  const std::int64_t tokens = flat_tokens(shape.sequences), strips = ceil_div(shape.channels, kStrip<A>);
  const std::int64_t tasks = ceil_div(tokens, kBlock) * strips;
  const int most = static_cast<int>(smaller(tasks, threads));
  const std::int64_t left = shape.causal ? shape.taps - 1 : (shape.taps - 1) / 2;
  const std::int64_t padded = strips * kStrip<A>;

  const std::int64_t tile_size = (kBlock + shape.taps - 1) * kStrip<A>, sums_size = kGroup * kStrip<A>;
  A* memory = allocate<A>(padded * (shape.taps + 1) + most * (tile_size + sums_size));
  if (memory == nullptr) return false;
  A* weights = memory;
  A* biases = weights + padded * shape.taps;
  A* scratch = biases + padded;
  load_weights<T>(shape, weight, reversed, weights);
  for (std::int64_t c = 0; c < padded; ++c) {
    biases[c] = bias != nullptr && c < shape.channels ? widen(static_cast<const T*>(bias)[c]) : A(0);
  }

  const Convolution<T, A> work{shape, from, to, reversed ? shape.taps - 1 - left : left, weights, biases};
#pragma omp parallel for schedule(static, 1) num_threads(most)
  for (int part = 0; part < most; ++part) {
    A* tile = scratch + part * (tile_size + sums_size);
    for (std::int64_t task = tasks * part / most; task < tasks * (part + 1) / most; ++task) {
      const std::int64_t first = task / strips * kBlock, last = smaller(tokens, first + kBlock);
      for (std::int64_t flat = first; flat < last;) {
        const Segment s = segment_at(shape.sequences, flat, last - flat);
        work.run(s, task % strips, tile, tile + tile_size);
        flat += s.count;
      }
    }
  }
  free(memory);
  return true;
}

// sums[n, c] += Σ_t grads[t, c] · tile[t + n, c] for N taps and a strip of channels.
template <int N, typename A>
inline void correlate_taps(const A* grads, const A* tile, std::int64_t count, A* sums) {
  using V = typename Vector<A>::type;
  for (std::int64_t c = 0; c < kStrip<A>; c += Vector<A>::lanes) {
    V partial[N] = {};
    for (std::int64_t t = 0; t < count; ++t) {
      const V grad = load(grads + t * kStrip<A> + c);
      const A* rows = tile + t * kStrip<A> + c;
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) partial[n] += load(rows + n * kStrip<A>) * grad;
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      A* sum = sums + n * kStrip<A> + c;
      store(sum, load(sum) + partial[n]);
    }
  }
}

template <typename A>
void correlate(const A* grads, const A* tile, std::int64_t count, std::int64_t taps, A* sums) {
  const std::int64_t groups = ceil_div(taps, kTapGroup);
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::int64_t k = taps * group / groups;
    const A* rows = tile + k * kStrip<A>;
    A* to = sums + k * kStrip<A>;
    switch (taps * (group + 1) / groups - k) {
      case 1:
        correlate_taps<1>(grads, rows, count, to);
        break;
      case 2:
        correlate_taps<2>(grads, rows, count, to);
        break;
      case 3:
        correlate_taps<3>(grads, rows, count, to);
        break;
      case 4:
        correlate_taps<4>(grads, rows, count, to);
        break;
      case 5:
        correlate_taps<5>(grads, rows, count, to);
        break;
      case 6:
        correlate_taps<6>(grads, rows, count, to);
        break;
      case 7:
        correlate_taps<7>(grads, rows, count, to);
        break;
      default:
        correlate_taps<8>(grads, rows, count, to);
    }
  }
}

// sums[c] += Σ_t grads[t, c].
template <typename A>
void add_rows(const A* grads, std::int64_t count, A* sums) {
  for (std::int64_t c = 0; c < kStrip<A>; c += Vector<A>::lanes) {
    typename Vector<A>::type partial{};
    for (std::int64_t t = 0; t < count; ++t) partial += load(grads + t * kStrip<A> + c);
    store(sums + c, load(sums + c) + partial);
  }
}

// Adds one segment's share to `sums` [K + 1, strip]: the weight's gradient, then the bias's.
template <typename T, typename A>
void add_segment(const DepthwiseConvBackward& call, const Segment& s, std::int64_t strip, A* tile, A* grads, A* sums) {
  const DepthwiseConvShape& shape = call.shape;
  const std::int64_t taps = shape.taps, left = shape.causal ? taps - 1 : (taps - 1) / 2;
  const std::int64_t channel = strip * kStrip<A>, width = smaller(kStrip<A>, shape.channels - channel);
  const std::int64_t real = smaller(s.count, s.end - s.token);
  if (real <= 0) return;
  load_tile<T>(call.grad, s, s.token, real, channel, width, grads);
  if (call.d_weight != nullptr) {
    load_tile<T>(call.x, s, s.token - left, real + taps - 1, channel, width, tile);
    correlate(grads, tile, real, taps, sums);
  }
  if (call.d_bias != nullptr) {
    add_rows(grads, real, sums + taps * kStrip<A>);
  }
}

// Gradients of weight and bias. False: out of memory.
template <typename T, typename A>
bool sum_gradients(const DepthwiseConvBackward& call, int threads) {
  const DepthwiseConvShape& shape = call.shape;
  const std::int64_t taps = shape.taps, tokens = flat_tokens(shape.sequences);
  const std::int64_t strips = ceil_div(shape.channels, kStrip<A>);
  const std::int64_t block = larger(kSumBlock, ceil_div(ceil_div(tokens, kSumBlocks), kBlock) * kBlock);
  const std::int64_t blocks = ceil_div(tokens, block), tasks = blocks * strips;
  const int most = static_cast<int>(smaller(tasks, threads));

  const std::int64_t sums_size = (taps + 1) * kStrip<A>;  // [K + 1, strip] for each strip of each block
  const std::int64_t tile_size = (kBlock + taps - 1) * kStrip<A>, grads_size = kBlock * kStrip<A>;
  A* memory = allocate<A>(tasks * sums_size + most * (tile_size + grads_size));
  if (memory == nullptr) return false;
  A* partial = memory;  // [blocks, strips, K + 1, strip]
  A* scratch = partial + tasks * sums_size;

#pragma omp parallel for schedule(static, 1) num_threads(most)
  for (int part = 0; part < most; ++part) {
    A* tile = scratch + part * (tile_size + grads_size);
    for (std::int64_t task = tasks * part / most; task < tasks * (part + 1) / most; ++task) {
      A* sums = partial + task * sums_size;
      for (std::int64_t i = 0; i < sums_size; ++i) sums[i] = A(0);
      const std::int64_t first = task / strips * block, last = smaller(tokens, first + block);
      for (std::int64_t flat = first; flat < last;) {
        const Segment s = segment_at(shape.sequences, flat, smaller(kBlock, last - flat));
        add_segment<T>(call, s, task % strips, tile, tile + tile_size, sums);
        flat += s.count;
      }
    }
  }

#pragma omp parallel for schedule(static) num_threads(static_cast<int>(smaller(strips, threads)))
  for (std::int64_t strip = 0; strip < strips; ++strip) {
    A* sums = partial + strip * sums_size;
    for (std::int64_t b = 1; b < blocks; ++b) {
      const A* more = sums + b * strips * sums_size;
      for (std::int64_t i = 0; i < sums_size; ++i) sums[i] += more[i];
    }
    const std::int64_t channel = strip * kStrip<A>, width = smaller(kStrip<A>, shape.channels - channel);
    for (std::int64_t c = 0; c < width; ++c) {
      for (std::int64_t k = 0; k < taps && call.d_weight != nullptr; ++k) {
        narrow(sums[k * kStrip<A> + c], static_cast<T*>(call.d_weight) + (channel + c) * taps + k);
      }
      if (call.d_bias != nullptr) narrow(sums[taps * kStrip<A> + c], static_cast<T*>(call.d_bias) + channel + c);
    }
  }
  free(memory);
  return true;
}

template <typename T, typename A>
bool backward(const DepthwiseConvBackward& call, int threads) {
  const bool sums_wanted = call.d_weight != nullptr || call.d_bias != nullptr;
  return (call.d_x.data == nullptr ||
          convolve<T, A>(call.shape, call.grad, call.weight, nullptr, true, call.d_x, threads)) &&
         (!sums_wanted || sum_gradients<T, A>(call, threads));
}

}  // namespace

bool depthwise_conv_forward(const DepthwiseConvForward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return convolve<float, float>(call.shape, call.x, call.weight, call.bias, false, call.out, threads);
    case DType::kFloat64:
      return convolve<double, double>(call.shape, call.x, call.weight, call.bias, false, call.out, threads);
    case DType::kBFloat16:
      return convolve<BFloat16, float>(call.shape, call.x, call.weight, call.bias, false, call.out, threads);
    case DType::kFloat16:
      return convolve<Float16, float>(call.shape, call.x, call.weight, call.bias, false, call.out, threads);
  }
  return true;
}

bool depthwise_conv_backward(const DepthwiseConvBackward& call, int threads) {
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
