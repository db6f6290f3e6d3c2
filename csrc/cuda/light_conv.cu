// light_conv on NVIDIA GPUs. A block has one head of one tile of tokens: it brings the rows its taps reach into shared
// memory, works out each token's weights once, and convolves from there. 3, 5, 7 and 9 taps have code of their own; any
// other number is worked through in chunks of kChunk taps. Gradients are gathered, never scattered: no atomics.
#include "light_conv.h"

#include <initializer_list>

#include "launch.cuh"
#include "light_conv_taps.cuh"
#include "token_tile.cuh"

namespace bertkernels {
namespace {

constexpr int kChunk = 8;

// TAPS = 0 stands for any number of taps.
template <int TAPS>
constexpr int kChunkTaps = TAPS == 0 ? kChunk : TAPS;

__device__ __forceinline__ int left_context(const LightConvShape& shape) {
  const int taps = static_cast<int>(shape.taps);
  return shape.causal ? taps - 1 : (taps - 1) / 2;
}

// What this thread works on: a run of tokens of a tile, and a lane of each step of channels.
struct Place {
  TokenTile tile;
  std::int64_t head;
  int step;  // of channels, where the grid spreads them over blocks
  int start, lane;

  __device__ __forceinline__ Place(const LightConvShape& shape, std::int64_t first_tile, unsigned steps) {
    const unsigned heads = static_cast<unsigned>(shape.heads), unit = blockIdx.x / steps;
    step = static_cast<int>(blockIdx.x - unit * steps);
    head = unit % heads;
    tile = token_tile<kTile>(shape.sequences, first_tile + unit / heads);
    start = static_cast<int>(threadIdx.x) / kLanes * kRun;
    lane = static_cast<int>(threadIdx.x) % kLanes;
  }
  __device__ __forceinline__ bool is_real(int token) const { return token >= tile.begin && token < tile.end; }
};

template <typename T>
__host__ __device__ inline std::int64_t channel_steps(const LightConvShape& shape) {
  return (shape.width + kStepChannels<T> - 1) / kStepChannels<T>;
}

// Zeros for tokens that are not real, whatever the sums came to.
template <typename T>
__device__ __forceinline__ void store_run(sum_t<T> (&sums)[kRun][kVectorWidth<T>], const Place& at,
                                          const HeadRows<T>& to, int channel, int channels, bool aligned) {
#pragma unroll
  for (int r = 0; r < kRun; ++r) {
    const int token = at.start + r;
    if (token >= at.tile.count) continue;
    if (!at.is_real(token)) {
#pragma unroll
      for (int c = 0; c < kVectorWidth<T>; ++c) sums[r][c] = 0;
    }
    store_row(sums[r], to[token] + channel, channels, aligned);
  }
}

template <int TAPS, typename T>
__device__ __forceinline__ void store_folded(const sum_t<T>* x, const FoldedTaps<TAPS>& mine, const Place& at,
                                             const HeadRows<T>& to, int tap, int taps) {
  const int token = at.start + mine.token;
  if (token >= at.tile.count) return;
  const bool real = at.is_real(token);
#pragma unroll
  for (int i = 0; i < FoldedTaps<TAPS>::kept; ++i) {
    const int k = mine.first_tap + i;
    if (k < TAPS && tap + k < taps) narrow(real ? x[i] : sum_t<T>(0), to[token][tap + k]);
  }
}

// Blocks a multiprocessor must hold, which bounds a kernel's registers; sums in fp64 take twice as many.
template <typename T>
constexpr int kResidentForward = sizeof(sum_t<T>) == sizeof(float) ? 5 : 3;
template <typename T>
constexpr int kResidentBackward = sizeof(sum_t<T>) == sizeof(float) ? 4 : 2;

// out = the convolution of `values` with the weights; MIRRORED, its transpose: the gradient of values from that of out.
template <typename T, int TAPS, bool MIRRORED>
__global__ void __launch_bounds__(kThreads, kResidentForward<T>)
    convolve(const LightConvForward call, const std::int64_t first_tile, const bool aligned) {
  constexpr int chunk = kChunkTaps<TAPS>, row_count = kTile + chunk - 1, weight_rows = MIRRORED ? row_count : kTile;
  constexpr bool exact = TAPS != 0;
  __shared__ Vector<T> rows[row_count][kLanes];
  __shared__ sum_t<T> weights[weight_rows][kPaddedTaps<chunk>];

  const LightConvShape& shape = call.shape;
  const Place at(shape, first_tile, static_cast<unsigned>(channel_steps<T>(shape)));
  const TokenTile& tile = at.tile;
  if (tile.count <= 0) return;
  const HeadRows<const T> values(call.values, tile, at.head), logits(call.logits, tile, at.head);
  const int channel = at.step * kStepChannels<T>, channels = static_cast<int>(shape.width) - channel;
  const int taps = exact ? TAPS : static_cast<int>(shape.taps), left = left_context(shape);

  sum_t<T> sums[kRun][kVectorWidth<T>] = {};
  for (int tap = 0; tap < taps; tap += chunk) {
    const int first = MIRRORED ? left - tap - (chunk - 1) : tap - left;
    if (first >= tile.end || first + row_count <= tile.begin) continue;  // these taps reach no token
    load_rows<kThreads>(rows, values, tile, first, channel, channels, aligned);
    load_weights<chunk, exact>(weights, logits, tile, MIRRORED ? first : 0, taps, tap, shape.softmax);
    wait_for_rows();
    __syncthreads();
    const int count = exact || taps - tap > chunk ? chunk : taps - tap;
    add_taps<chunk, MIRRORED>(sums, rows, weights, at.start, at.lane, count);
    if (!exact) __syncthreads();
  }
  const int lane_channel = at.lane * kVectorWidth<T>;
  const HeadRows<T> out(call.out, tile, at.head);
  store_run(sums, at, out, channel + lane_channel, channels - lane_channel, aligned);
}

// Both gradients at once, for TAPS taps: rows of values and of gradients are read from memory once.
template <typename T, int TAPS>
__global__ void __launch_bounds__(kThreads, kResidentBackward<T>)
    differentiate(const LightConvBackward call, const std::int64_t first_tile, const bool aligned) {
  using A = sum_t<T>;
  constexpr int row_count = kTile + TAPS - 1;
  __shared__ Vector<T> grad_rows[row_count][kLanes];
  __shared__ Vector<T> value_rows[row_count][kLanes];
  __shared__ A weights[row_count][kPaddedTaps<TAPS>];  // of the tokens of grad_rows

  const LightConvShape& shape = call.shape;
  const Place at(shape, first_tile, 1);
  const TokenTile& tile = at.tile;
  if (tile.count <= 0) return;
  const int width = static_cast<int>(shape.width), left = left_context(shape), right = TAPS - 1 - left;

  const auto start_rows = [&](int channel) {
    const HeadRows<const T> grad(call.grad, tile, at.head), values(call.values, tile, at.head);
    load_rows<kThreads>(grad_rows, grad, tile, -right, channel, width - channel, aligned);
    load_rows<kThreads>(value_rows, values, tile, -left, channel, width - channel, aligned);
  };
  start_rows(0);
  const HeadRows<const T> logits(call.logits, tile, at.head);
  load_weights<TAPS, true>(weights, logits, tile, -right, TAPS, 0, shape.softmax);

  A products[kRun * TAPS] = {};
  for (int channel = 0;;) {
    wait_for_rows();
    __syncthreads();
    A sums[kRun][kVectorWidth<T>] = {};
    add_taps<TAPS, true>(sums, grad_rows, weights, at.start, at.lane, TAPS);
    const int lane_channel = channel + at.lane * kVectorWidth<T>;
    store_run(sums, at, HeadRows<T>(call.d_values, tile, at.head), lane_channel, width - lane_channel, aligned);
    add_products<TAPS>(products, grad_rows, right + at.start, value_rows, at.start, at.lane);
    channel += kStepChannels<T>;
    if (channel >= width) break;
    __syncthreads();
    start_rows(channel);
  }

  fold_lanes<kRun * TAPS, kLanes / 2>(products, at.lane);
  const FoldedTaps<TAPS> mine(at.lane);
  if (shape.softmax) {
    const A* own = weights[right + at.start + mine.token];
    A mean = 0;
#pragma unroll
    for (int i = 0; i < mine.kept; ++i) {
      if (mine.first_tap + i < TAPS) mean += own[mine.first_tap + i] * products[i];
    }
    mean += __shfl_xor_sync(kWarp, mean, 1);
#pragma unroll
    for (int i = 0; i < mine.kept; ++i) {
      if (mine.first_tap + i < TAPS) products[i] = own[mine.first_tap + i] * (products[i] - mean);
    }
  }
  store_folded(products, mine, at, HeadRows<T>(call.d_logits, tile, at.head), 0, TAPS);
}

// The gradient of logits for any number of taps. The softmax's mean runs over all taps, which do not fit registers: a
// first pass adds it up, a second one works the chunks out again and writes.
template <typename T>
__global__ void __launch_bounds__(kThreads, kResidentBackward<T>)
    differentiate_logits(const LightConvBackward call, const std::int64_t first_tile, const bool aligned) {
  using A = sum_t<T>;
  constexpr int row_count = kTile + kChunk - 1;
  __shared__ Vector<T> grad_rows[kTile][kLanes];
  __shared__ Vector<T> value_rows[row_count][kLanes];
  __shared__ A weights[kTile][kPaddedTaps<kChunk>];

  const LightConvShape& shape = call.shape;
  const Place at(shape, first_tile, 1);
  const TokenTile& tile = at.tile;
  if (tile.count <= 0) return;
  const int taps = static_cast<int>(shape.taps), width = static_cast<int>(shape.width), left = left_context(shape);
  const FoldedTaps<kChunk> mine(at.lane);

  A mean = 0;
  for (int pass = shape.softmax ? 0 : 1; pass < 2; ++pass) {
    for (int tap = 0; tap < taps; tap += kChunk) {
      A products[kRun * kChunk] = {};
      for (int channel = 0; channel < width; channel += kStepChannels<T>) {
        const int channels = width - channel;
        const HeadRows<const T> grad(call.grad, tile, at.head), values(call.values, tile, at.head);
        __syncthreads();  // the step before is done with the rows
        load_rows<kThreads>(grad_rows, grad, tile, 0, channel, channels, aligned);
        load_rows<kThreads>(value_rows, values, tile, tap - left, channel, channels, aligned);
        if (channel == 0) {
          const HeadRows<const T> logits(call.logits, tile, at.head);
          load_weights<kChunk, false>(weights, logits, tile, 0, taps, tap, shape.softmax);
        }
        wait_for_rows();
        __syncthreads();
        add_products<kChunk>(products, grad_rows, at.start, value_rows, at.start, at.lane);
      }
      fold_lanes<kRun * kChunk, kLanes / 2>(products, at.lane);
      const A* own = weights[at.start + mine.token] + mine.first_tap;
      if (pass == 0) {
#pragma unroll
        for (int i = 0; i < mine.kept; ++i) {
          if (tap + mine.first_tap + i < taps) mean += own[i] * products[i];
        }
        continue;
      }
      if (shape.softmax) {
#pragma unroll
        for (int i = 0; i < mine.kept; ++i) products[i] = own[i] * (products[i] - mean);
      }
      store_folded(products, mine, at, HeadRows<T>(call.d_logits, tile, at.head), tap, taps);
    }
    if (pass == 0) mean += __shfl_xor_sync(kWarp, mean, 1);
  }
}

template <typename T>
bool all_aligned(const LightConvShape& shape, std::initializer_list<const Operand*> operands) {
  const Sequences& s = shape.sequences;
  const std::int64_t rows = s.cu_seqlens != nullptr ? 1 : s.batches;
  for (const Operand* x : operands) {
    if (!is_aligned<T>(*x, rows, s.tokens, shape.heads, shape.width)) return false;
  }
  return true;
}

// Within a tile and its surroundings the kernels count in 32 bits.
void check_sizes(const char* name, const LightConvShape& shape) {
  constexpr std::int64_t kMost = kFar / 2;
  if (shape.taps > kMost || shape.width > kMost || shape.heads > kMost) {
    throw std::runtime_error(std::string(name) + ": more than " + std::to_string(kMost) + " taps, channels or heads");
  }
}

// Kernels of their own take compile time and room: only the common numbers of taps have them, and fp64, which GPUs run
// slowly in any case, has none.
template <typename T, bool MIRRORED>
auto choose_convolve(std::int64_t taps) {
  if constexpr (!MIRRORED && sizeof(T) <= sizeof(float)) {
    if (taps == 3) return convolve<T, 3, MIRRORED>;
    if (taps == 5) return convolve<T, 5, MIRRORED>;
    if (taps == 7) return convolve<T, 7, MIRRORED>;
    if (taps == 9) return convolve<T, 9, MIRRORED>;
  }
  return convolve<T, 0, MIRRORED>;
}

template <typename T>
auto choose_differentiate(std::int64_t taps) -> decltype(&differentiate_logits<T>) {
  if constexpr (sizeof(T) <= sizeof(float)) {
    if (taps == 3) return differentiate<T, 3>;
    if (taps == 5) return differentiate<T, 5>;
    if (taps == 7) return differentiate<T, 7>;
    if (taps == 9) return differentiate<T, 9>;
  }
  return nullptr;
}

template <typename T, bool MIRRORED>
void run_convolve(const LightConvForward& call, cudaStream_t stream) {
  const LightConvShape& shape = call.shape;
  const bool aligned = all_aligned<T>(shape, {&call.values, &call.out});
  launch_tiles("light_conv", choose_convolve<T, MIRRORED>(shape.taps), call, count_tiles<kTile>(shape.sequences),
               shape.heads * channel_steps<T>(shape), kThreads, aligned, stream);
}

template <typename T>
void run_backward(const LightConvBackward& call, cudaStream_t stream) {
  const LightConvShape& shape = call.shape;
  const std::int64_t tiles = count_tiles<kTile>(shape.sequences);
  if (const auto both = choose_differentiate<T>(shape.taps)) {
    const bool aligned = all_aligned<T>(shape, {&call.grad, &call.values, &call.d_values});
    launch_tiles("light_conv backward", both, call, tiles, shape.heads, kThreads, aligned, stream);
    return;
  }
  run_convolve<T, true>({shape, call.grad, call.logits, call.d_values}, stream);
  const bool aligned = all_aligned<T>(shape, {&call.grad, &call.values});
  launch_tiles("light_conv backward", differentiate_logits<T>, call, tiles, shape.heads, kThreads, aligned, stream);
}

}  // namespace

void light_conv_forward_cuda(const LightConvForward& call, std::uintptr_t stream) {
  check_sizes("light_conv", call.shape);
  const auto queue = reinterpret_cast<cudaStream_t>(stream);
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return run_convolve<float, false>(call, queue);
    case DType::kFloat64:
      return run_convolve<double, false>(call, queue);
    case DType::kBFloat16:
      return run_convolve<__nv_bfloat16, false>(call, queue);
    case DType::kFloat16:
      return run_convolve<__half, false>(call, queue);
  }
}

void light_conv_backward_cuda(const LightConvBackward& call, std::uintptr_t stream) {
  check_sizes("light_conv backward", call.shape);
  const auto queue = reinterpret_cast<cudaStream_t>(stream);
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return run_backward<float>(call, queue);
    case DType::kFloat64:
      return run_backward<double>(call, queue);
    case DType::kBFloat16:
      return run_backward<__nv_bfloat16>(call, queue);
    case DType::kFloat16:
      return run_backward<__half>(call, queue);
  }
}

}  // namespace bertkernels
