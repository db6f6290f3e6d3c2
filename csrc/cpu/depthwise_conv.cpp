// depthwise_conv on the CPU. A thread takes a run of tokens and goes through them a few at a time, all channels of those
// before the next few, so that memory is read and written as it lies. For a vector of channels it holds the kernels and
// the sums of these tokens in registers and reads each row of their windows once. Rows outside a sequence are read from
// one of zeros, and rows of 16-bit numbers from a widened copy: so one plain loop convolves, whatever dtype and bounds.
//
// The gradient of x is the convolution of the output's gradient with the kernels reversed. Gradients of weight and bias
// are summed in two stages: over the tokens of a block, then over the blocks in order. Where blocks begin depends on the
// sizes alone, so results do not depend on the number of threads.
#include "depthwise_conv.h"

#include "columns.h"
#include "integers.h"
#include "scratch.h"
#include "segments.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kBlock = 64;                         // tokens whose rows are widened together
constexpr int kGroup = kVectorBytes == 64 ? 8 : 4;          // tokens whose sums are in registers together
constexpr std::int64_t kSumBlock = 256;                     // least number of tokens a block of the first stage
constexpr std::int64_t kSumBlocks = 128;                    // largest number of such blocks
constexpr std::int64_t kSumStrip = 256, kLeastStrip = 64;   // channels that are summed together

// Channels whose rows are read together: all of them in place, or as many as a widened copy in the nearest cache has.
template <typename T, typename A>
inline std::int64_t strip_of(std::int64_t channels, std::int64_t most) {
  return smaller(channels, sizeof(T) == sizeof(A) ? most : kLeastStrip);
}

template <typename T>
inline T* row_of(const Operand& x, std::int64_t batch, std::int64_t token, std::int64_t channel) {
  return static_cast<T*>(x.data) + batch * x.batch + token * x.token + channel;
}

// A strip of the rows of some tokens of a segment's sequence, `width` channels from `channel` on.
template <typename T, typename A>
class Rows {
 public:
  // Those of tokens first ≤ t < last. `copy` [last - first, width] is used where they cannot be read in place; `zeros`
  // [width] stands for rows outside the sequence.
  Rows(const Operand& x, const Segment& s, std::int64_t first, std::int64_t last, std::int64_t channel,
       std::int64_t width, A* copy, const A* zeros)
      : first_(larger(first, s.begin)), last_(smaller(last, s.end)), zeros_(zeros) {
    if constexpr (sizeof(T) == sizeof(A)) {
      base_ = row_of<A>(x, s.batch, 0, channel);
      stride_ = x.token;
    } else {
      for (std::int64_t t = first_; t < last_; ++t) {
        widen_row(row_of<const T>(x, s.batch, t, channel), copy + (t - first_) * width, width);
      }
      base_ = copy - first_ * width;
      stride_ = width;
    }
  }

  // Pointers to `count` rows from token t on.
  void point(std::int64_t t, std::int64_t count, const A** rows) const {
    for (std::int64_t i = 0; i < count; ++i) {
      rows[i] = t + i >= first_ && t + i < last_ ? base_ + (t + i) * stride_ : zeros_;
    }
  }

 private:
  std::int64_t first_, last_, stride_;
  const A* zeros_;
  const A* base_;
};

// Calls run(K) with the number of taps as a constant where it is a usual one: all K weights are then held in registers. 0
// stands for any other number.
template <int K>
struct Taps {
  static constexpr int count = K;
};
template <typename Run>
inline void with_taps(std::int64_t taps, Run run) {
  switch (taps) {
    case 3:
      return run(Taps<3>());
    case 5:
      return run(Taps<5>());
    case 7:
      return run(Taps<7>());
    case 9:
      return run(Taps<9>());
    default:
      return run(Taps<0>());
  }
}

// sums[p] += Σ_k weights[k · step] · rows[p + k] at channel c and its neighbours.
template <int K, typename A>
__attribute__((always_inline)) inline void convolve_vector(const A* const* rows, std::int64_t c, const A* weights,
                                                           std::int64_t step, std::int64_t taps,
                                                           typename Vector<A>::type* sums) {
  using V = typename Vector<A>::type;
  if constexpr (K > 0) {
    V weight[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) weight[k] = load(weights + k * step);
#pragma GCC unroll 32
    for (int r = 0; r < kGroup + K - 1; ++r) {
      const V x = load(rows[r] + c);
#pragma GCC unroll 8
      for (int p = 0; p < kGroup; ++p) {
        if (p <= r && r < p + K) sums[p] += x * weight[r - p];
      }
    }
  } else {
    for (std::int64_t k = 0; k < taps; ++k) {
      const V weight = load(weights + k * step);
#pragma GCC unroll 8
      for (int p = 0; p < kGroup; ++p) sums[p] += load(rows[p + k] + c) * weight;
    }
  }
}

// Into a row of the storage type.
template <typename A>
inline void store_as(A* to, typename Vector<A>::type v) {
  store(to, v);
}
template <typename T>
inline void store_as(T* to, Vector<float>::type v) {
  float values[Vector<float>::lanes];
  store(values, v);
  narrow_row(values, to, Vector<float>::lanes);
}

template <typename A>
struct Kernels {
  const A* weights;   // of tap 0, [C]
  std::int64_t step;  // from tap to tap
  const A* bias;      // [C]
  std::int64_t taps;
};

// Sums of the first `count` of kGroup tokens, for `width` channels from `channel` on; rows [kGroup + K - 1] begin there.
template <int K, typename T, typename A>
void convolve_group(const Kernels<A>& kernels, const A* const* rows, std::int64_t channel, std::int64_t width,
                    std::int64_t count, T* to, std::int64_t stride) {
  constexpr int lanes = Vector<A>::lanes;
  const A *weights = kernels.weights + channel, *bias = kernels.bias + channel;
  if (width < lanes) {
    for (std::int64_t p = 0; p < count; ++p) {
      for (std::int64_t c = 0; c < width; ++c) {
        A sum = bias[c];
        for (std::int64_t k = 0; k < kernels.taps; ++k) sum += rows[p + k][c] * weights[k * kernels.step + c];
        narrow(sum, to + p * stride + c);
      }
    }
    return;
  }
  for (std::int64_t i = 0; i < width; i += lanes) {
    const std::int64_t c = smaller(i, width - lanes);  // the last vector does some channels of the one before it again
    typename Vector<A>::type sums[kGroup];
    const auto start = load(bias + c);
#pragma GCC unroll 8
    for (int p = 0; p < kGroup; ++p) sums[p] = start;
    convolve_vector<K>(rows, c, weights + c, kernels.step, kernels.taps, sums);
#pragma GCC unroll 8
    for (int p = 0; p < kGroup; ++p) {
      if (p < count) store_as(to + p * stride + c, sums[p]);
    }
  }
}

// Convolves one segment, of no more than kBlock tokens, of which each reads `left` before its own.
template <int K, typename T, typename A>
void convolve_segment(const Kernels<A>& kernels, const Operand& from, const Operand& to, const Segment& s,
                      std::int64_t left, std::int64_t channels, const A** rows, const A* zeros, A* copy) {
  const std::int64_t real_end = larger(s.token, smaller(s.token + s.count, s.end));
  const std::int64_t strip = strip_of<T, A>(channels, channels), right = kernels.taps - 1 - left;
  for (std::int64_t channel = 0; channel < channels; channel += strip) {
    const std::int64_t width = smaller(strip, channels - channel);
    const Rows<T, A> inputs(from, s, s.token - left, real_end + right, channel, width, copy, zeros);
    for (std::int64_t t = s.token; t < real_end; t += kGroup) {
      inputs.point(t - left, kGroup + kernels.taps - 1, rows);
      convolve_group<K>(kernels, rows, channel, width, smaller(kGroup, real_end - t),
                        row_of<T>(to, s.batch, t, channel), to.token);
    }
  }
  for (std::int64_t t = real_end; t < s.token + s.count; ++t) {
    T* out = row_of<T>(to, s.batch, t, 0);
    for (std::int64_t c = 0; c < channels; ++c) out[c] = T{};
  }
}

// Memory for one thread, cut up in the order in which it is asked for.
template <typename A>
class Scratch {
 public:
  explicit Scratch(std::int64_t count) : memory_(allocate<A>(count)), next_(memory_) {}
  ~Scratch() { free(memory_); }
  Scratch(const Scratch&) = delete;
  bool exhausted() const { return memory_ == nullptr; }
  A* take(std::int64_t count) {
    A* taken = next_;
    next_ += count;
    return taken;
  }
  A* zeros(std::int64_t count) {
    A* taken = take(count);
    for (std::int64_t i = 0; i < count; ++i) taken[i] = A(0);
    return taken;
  }

 private:
  A *memory_, *next_;
};

// In units of A: room for `count` pointers.
template <typename A>
constexpr std::int64_t pointers(std::int64_t count) {
  return ceil_div(count * sizeof(A*), sizeof(A));
}

// Convolves all of `from` into `to`. False: out of memory.
template <typename T, typename A>
bool convolve(const DepthwiseConvShape& shape, const Operand& from, const Operand& weight, const void* bias,
              bool reversed, const Operand& to, int threads) {
  const std::int64_t tokens = flat_tokens(shape.sequences), channels = shape.channels, taps = shape.taps;
  const std::int64_t groups = ceil_div(tokens, kGroup);
  const int most = static_cast<int>(smaller(groups, threads));
  const std::int64_t forward_left = shape.causal ? taps - 1 : (taps - 1) / 2;
  const std::int64_t left = reversed ? taps - 1 - forward_left : forward_left;
  const std::int64_t copy = sizeof(T) == sizeof(A) ? 0 : (kBlock + taps - 1) * strip_of<T, A>(channels, channels);
  const std::int64_t count = pointers<A>(kGroup + taps - 1) + (taps + 2) * channels + copy;
  bool exhausted = false;
#pragma omp parallel for schedule(static, 1) num_threads(most) reduction(|| : exhausted)
  for (int part = 0; part < most; ++part) {
    Scratch<A> scratch(count);
    if (scratch.exhausted()) {
      exhausted = true;
      continue;
    }
    // each thread its own: to get them from another core takes longer
    const A** rows = reinterpret_cast<const A**>(scratch.take(pointers<A>(kGroup + taps - 1)));
    A* weights = scratch.take(taps * channels);
    A* biases = scratch.zeros(channels);
    const A* zeros = scratch.zeros(channels);
    rows_to_columns(static_cast<const T*>(weight.data), weight.token, channels, taps, weights, channels);
    if (bias != nullptr) widen_row(static_cast<const T*>(bias), biases, channels);
    const Kernels<A> kernels{reversed ? weights + (taps - 1) * channels : weights, reversed ? -channels : channels,
                             biases, taps};
    A* tile = scratch.take(copy);
    const std::int64_t last = smaller(tokens, groups * (part + 1) / most * kGroup);
    for (std::int64_t flat = groups * part / most * kGroup; flat < last;) {
      const Segment s = segment_at(shape.sequences, flat, smaller(kBlock, last - flat));
      with_taps(taps, [&](auto known) {
        convolve_segment<known.count, T>(kernels, from, to, s, left, channels, rows, zeros, tile);
      });
      flat += s.count;
    }
  }
  return !exhausted;
}

// sums[k, i…] += Σ_p grads[p] · rows[p + k] over the tokens of a group, at channel c and its neighbours.
template <int K, typename A>
__attribute__((always_inline)) inline void correlate_vector(const A* const* grads, const A* const* rows, std::int64_t c,
                                                            std::int64_t taps, std::int64_t step, A* sums) {
  using V = typename Vector<A>::type;
  V grad[kGroup];
#pragma GCC unroll 8
  for (int p = 0; p < kGroup; ++p) grad[p] = load(grads[p] + c);
  if constexpr (K > 0) {
    V sum[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) sum[k] = load(sums + k * step);
#pragma GCC unroll 32
    for (int r = 0; r < kGroup + K - 1; ++r) {
      const V x = load(rows[r] + c);
#pragma GCC unroll 8
      for (int p = 0; p < kGroup; ++p) {
        if (p <= r && r < p + K) sum[r - p] += x * grad[p];
      }
    }
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) store(sums + k * step, sum[k]);
  } else {
    for (std::int64_t k = 0; k < taps; ++k) {
      V sum = load(sums + k * step);
#pragma GCC unroll 8
      for (int p = 0; p < kGroup; ++p) sum += load(rows[p + k] + c) * grad[p];
      store(sums + k * step, sum);
    }
  }
}

// Where the sums of the vector of channels from i on begin among those of a strip: vectors do not share sums, though the
// last one may be over channels of the one before it.
template <typename A>
inline std::int64_t sum_of(std::int64_t c, std::int64_t width) {
  constexpr int lanes = Vector<A>::lanes;
  const std::int64_t whole = width / lanes * lanes;
  return c < whole || width < lanes ? c : whole + c - (width - lanes);
}

// Adds one segment's share to `sums` [K + 1, step]: the weight's gradient, then the bias's.
template <int K, typename T, typename A>
void add_segment(const DepthwiseConvBackward& call, const Segment& s, std::int64_t channel, std::int64_t width,
                 std::int64_t step, const A** rows, const A* zeros, A* copy, A* sums) {
  constexpr int lanes = Vector<A>::lanes;
  const DepthwiseConvShape& shape = call.shape;
  const std::int64_t taps = shape.taps, left = shape.causal ? taps - 1 : (taps - 1) / 2;
  const std::int64_t real_end = smaller(s.token + s.count, s.end);
  if (s.token >= real_end) return;
  const Rows<T, A> gradients(call.grad, s, s.token, real_end, channel, width, copy, zeros);
  const Rows<T, A> inputs(call.x, s, s.token - left, real_end + taps - 1 - left, channel, width, copy + kBlock * width,
                          zeros);
  const A** grads = rows + kGroup + taps - 1;
  for (std::int64_t t = s.token; t < real_end; t += kGroup) {
    gradients.point(t, kGroup, grads);
    inputs.point(t - left, kGroup + taps - 1, rows);
    for (std::int64_t i = 0; i < width && width >= lanes; i += lanes) {
      const std::int64_t c = smaller(i, width - lanes);
      if (call.d_weight != nullptr) correlate_vector<K>(grads, rows, c, taps, step, sums + i);
      A* sum = sums + taps * step + i;
      auto bias = load(sum);
#pragma GCC unroll 8
      for (int p = 0; p < kGroup; ++p) bias += load(grads[p] + c);
      store(sum, bias);
    }
    for (std::int64_t c = 0; c < width && width < lanes; ++c) {
      for (int p = 0; p < kGroup; ++p) {
        for (std::int64_t k = 0; k < taps; ++k) sums[k * step + c] += rows[p + k][c] * grads[p][c];
        sums[taps * step + c] += grads[p][c];
      }
    }
  }
}

// Gradients of weight and bias. False: out of memory.
template <typename T, typename A>
bool sum_gradients(const DepthwiseConvBackward& call, int threads) {
  constexpr int lanes = Vector<A>::lanes;
  const DepthwiseConvShape& shape = call.shape;
  const std::int64_t taps = shape.taps, tokens = flat_tokens(shape.sequences), channels = shape.channels;
  const std::int64_t block = larger(kSumBlock, ceil_div(ceil_div(tokens, kSumBlocks), kBlock) * kBlock);
  const std::int64_t blocks = ceil_div(tokens, block);
  // narrower where there would be too few tasks; channels are independent, so the results are the same
  std::int64_t strip = strip_of<T, A>(channels, kSumStrip);
  while (strip > kLeastStrip && blocks * ceil_div(channels, strip) < threads) strip = larger(strip / 2, kLeastStrip);
  const std::int64_t strips = ceil_div(channels, strip), tasks = blocks * strips;
  const int most = static_cast<int>(smaller(tasks, threads));

  const std::int64_t step = ceil_div(strip, lanes) * lanes, sums_size = (taps + 1) * step;
  const std::int64_t copy = sizeof(T) == sizeof(A) ? 0 : (2 * kBlock + taps - 1) * strip;
  const std::int64_t room = pointers<A>(2 * kGroup + taps - 1);
  Scratch<A> shared(tasks * sums_size);
  if (shared.exhausted()) return false;
  A* partial = shared.take(tasks * sums_size);  // [blocks, strips, K + 1, step]
  bool exhausted = false;
#pragma omp parallel for schedule(static, 1) num_threads(most) reduction(|| : exhausted)
  for (int part = 0; part < most; ++part) {
    Scratch<A> scratch(room + strip + copy);
    if (scratch.exhausted()) {
      exhausted = true;
      continue;
    }
    const A** rows = reinterpret_cast<const A**>(scratch.take(room));
    const A* zeros = scratch.zeros(strip);
    A* tile = scratch.take(copy);
    for (std::int64_t task = tasks * part / most; task < tasks * (part + 1) / most; ++task) {
      A* sums = partial + task * sums_size;
      for (std::int64_t i = 0; i < sums_size; ++i) sums[i] = A(0);
      const std::int64_t first = task / strips * block, last = smaller(tokens, first + block);
      const std::int64_t channel = task % strips * strip, width = smaller(strip, channels - channel);
      with_taps(taps, [&](auto known) {
        for (std::int64_t flat = first; flat < last;) {
          const Segment s = segment_at(shape.sequences, flat, smaller(kBlock, last - flat));
          add_segment<known.count, T>(call, s, channel, width, step, rows, zeros, tile, sums);
          flat += s.count;
        }
      });
    }
  }
  if (exhausted) return false;

#pragma omp parallel for schedule(static) num_threads(static_cast<int>(smaller(strips, threads)))
  for (std::int64_t strip_number = 0; strip_number < strips; ++strip_number) {
    A* sums = partial + strip_number * sums_size;
    for (std::int64_t b = 1; b < blocks; ++b) {
      const A* more = sums + b * strips * sums_size;
      for (std::int64_t i = 0; i < sums_size; ++i) sums[i] += more[i];
    }
    const std::int64_t channel = strip_number * strip, width = smaller(strip, channels - channel);
    for (std::int64_t c = 0; c < width; ++c) {
      const A* sum = sums + sum_of<A>(c, width);
      for (std::int64_t k = 0; k < taps && call.d_weight != nullptr; ++k) {
        narrow(sum[k * step], static_cast<T*>(call.d_weight) + (channel + c) * taps + k);
      }
      if (call.d_bias != nullptr) narrow(sum[taps * step], static_cast<T*>(call.d_bias) + channel + c);
    }
  }
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
