// depthwise_conv on NVIDIA GPUs. A block has one step of channels (128 bytes of a row) and works through a group of
// tiles of tokens, with its channels' kernels in registers: it brings the rows that a tile reads into shared memory, and
// while it works on them, the next tile's are on their way. 3, 5, … 15 taps have code of their own; any other number is
// worked through in chunks of kChunk taps.
// Gradients of weight and bias are added up in two stages, both in an order that depends on sizes alone: no atomics.
#include "depthwise_conv.h"

#include <algorithm>
#include <initializer_list>

#include "depthwise_conv_taps.cuh"
#include "launch.cuh"
#include "token_tile.cuh"

namespace bertkernels {
namespace {

constexpr int kChunk = 8;
constexpr int kAddLanes = 32, kAddRows = 16;  // of a block that adds up shares

// TAPS = 0 stands for any number of taps.
template <int TAPS>
constexpr int kChunkTaps = TAPS == 0 ? kChunk : TAPS;

// Kernels of their own take compile time and room: only the common numbers of taps have them, and fp64, which GPUs run
// slowly in any case, has none.
template <typename T>
constexpr bool kHasOwn = sizeof(T) <= sizeof(float);

__host__ __device__ inline bool is_common(const DepthwiseConvShape& shape) {
  return shape.dtype != DType::kFloat64 && shape.taps % 2 == 1 && shape.taps >= 3 && shape.taps <= 15;
}

// Group i has tiles i, i + count, …
struct Groups {
  std::int64_t tiles = 0, count = 0;
};

struct Convolution {
  DepthwiseConvShape shape;
  Groups groups;
  Operand from, weight;
  const void* bias = nullptr;  // may be null
  Operand to;
  bool mirrored = false;  // the transpose: `to` is the gradient of what was convolved, `from` that of the result
};

struct Correlation {
  DepthwiseConvShape shape;
  Groups groups;
  Operand grad, x, weight;
  Operand d_x;             // null where not wanted, and where taps come in chunks
  void* shares = nullptr;  // [groups, K + 1, C]: of each group, d_weight and d_bias
};

struct Addition {
  DepthwiseConvShape shape;
  std::int64_t groups = 0;
  const void* shares = nullptr;
  void* d_weight = nullptr;  // [C, K], null where not wanted
  void* d_bias = nullptr;    // [C], likewise
};

__host__ __device__ inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <typename T>
__host__ __device__ inline std::int64_t channel_steps(const DepthwiseConvShape& shape) {
  return ceil_div(shape.channels, kStepChannels<T>);
}

__device__ __forceinline__ int left_context(const DepthwiseConvShape& shape, bool mirrored) {
  const int taps = static_cast<int>(shape.taps), left = shape.causal ? taps - 1 : (taps - 1) / 2;
  return mirrored ? taps - 1 - left : left;
}

// What the sums of a lane's channels begin with.
template <typename T>
__device__ __forceinline__ void load_bias(Sums<T>& to, const void* bias, const Place<T>& at) {
#pragma unroll
  for (int c = 0; c < kWordChannels<T>; ++c) {
    const bool inside = bias != nullptr && at.offset + c < at.channels;
    to[c] = inside ? widen(static_cast<const T*>(bias)[at.channel + at.offset + c]) : sum_t<T>(0);
  }
}

// Calls load(tile, stage) for each tile of a group, and work(tile, stage, first) one tile later, when the rows are there
// and the next tile's are on their way to the other stage. The first time there is nothing to work on yet: an empty tile.
template <typename Load, typename Work>
__device__ __forceinline__ void walk_tiles(const Sequences& sequences, const Groups& groups, std::int64_t group, Load load,
                                           Work work) {
  TokenTile next = {};
  int stage = 0;
  for (std::int64_t index = group;; index += groups.count) {
    wait_for_rows();
    __syncthreads();  // all are done with the stage that is filled now
    const TokenTile tile = next;
    const bool more = index < groups.tiles;
    next = TokenTile{};
    if (more) next = token_tile<kTile>(sequences, index);
    if (next.count > 0) load(next, stage);
    stage ^= 1;
    work(tile, stage, index == group);
    if (!more) break;
  }
}

// Blocks a multiprocessor must hold, which bounds a kernel's registers. Taps: 0 where they come in chunks.
constexpr int resident_forward(std::int64_t taps) { return taps <= 9 ? 6 : 5; }
constexpr int resident_backward(std::int64_t taps) { return taps <= 9 ? 4 : 3; }

template <typename T, int TAPS>
__global__ void __launch_bounds__(kThreads, resident_forward(TAPS))
    convolve(const Convolution call, const std::int64_t first_group, const bool aligned) {
  __shared__ Vector<T> rows[2][kTile + TAPS - 1][kLanes], results[kTile][kLanes];
  __shared__ Table<T, TAPS> table;
  const unsigned steps = static_cast<unsigned>(channel_steps<T>(call.shape)), unit = blockIdx.x / steps;
  const Place<T> at(call.shape.channels, static_cast<int>(blockIdx.x - unit * steps));
  const int left = left_context(call.shape, call.mirrored);

  Sums<T> weights[TAPS], first_sums;
  load_bias(first_sums, call.bias, at);
  walk_tiles(
      call.shape.sequences, call.groups, first_group + unit,
      [&](const TokenTile& tile, int stage) {
        const HeadRows<const T> from(call.from, tile, 0);
        load_rows<kThreads>(rows[stage], from, tile, -left, at.channel, at.channels, aligned);
      },
      [&](const TokenTile& tile, int stage, bool first) {
        if (first) {
          load_taps<TAPS, TAPS, T>(table, call.weight, at, 0, TAPS, call.mirrored);
          __syncthreads();
          take_taps<T>(weights, table, at);
        }
        if (at.warp_start >= tile.count) return;
        convolve_run(results, first_sums, weights, rows[stage], at);
        __syncwarp();
        store_rows(results, HeadRows<T>(call.to, tile, 0), tile, at, aligned);
      });
}

// For any number of taps; a group is one tile.
template <typename T>
__global__ void __launch_bounds__(kThreads, resident_forward(0))
    convolve_in_chunks(const Convolution call, const std::int64_t first_tile, const bool aligned) {
  constexpr int row_count = kTile + kChunk - 1;
  __shared__ Vector<T> rows[row_count][kLanes], results[kTile][kLanes];
  __shared__ Table<T, kChunk> table;
  const unsigned steps = static_cast<unsigned>(channel_steps<T>(call.shape)), unit = blockIdx.x / steps;
  const Place<T> at(call.shape.channels, static_cast<int>(blockIdx.x - unit * steps));
  const int taps = static_cast<int>(call.shape.taps), left = left_context(call.shape, call.mirrored);
  const TokenTile tile = token_tile<kTile>(call.shape.sequences, first_tile + unit);
  if (tile.count <= 0) return;

  Sums<T> sums[kRun<T>], first_sums;
  load_bias(first_sums, call.bias, at);
#pragma unroll
  for (int r = 0; r < kRun<T>; ++r) {
#pragma unroll
    for (int c = 0; c < kWordChannels<T>; ++c) sums[r][c] = first_sums[c];
  }
  const HeadRows<const T> from(call.from, tile, 0);
  for (int tap = 0; tap < taps; tap += kChunk) {
    if (tap - left >= tile.end || tap - left + row_count <= tile.begin) continue;  // these taps reach no token
    load_rows<kThreads>(rows, from, tile, tap - left, at.channel, at.channels, aligned);
    load_taps<kChunk, kChunk, T>(table, call.weight, at, tap, taps, call.mirrored);
    wait_for_rows();
    __syncthreads();
    Sums<T> weights[kChunk];
    take_taps<T>(weights, table, at);
    add_taps(sums, weights, rows, at, taps - tap > kChunk ? kChunk : taps - tap);
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < kRun<T>; ++r) store_word(sums[r], results[at.start + r], at.lane);
  __syncwarp();
  store_rows(results, HeadRows<T>(call.to, tile, 0), tile, at, aligned);
}

// How many chunks of taps `correlate` has blocks of their own for.
__host__ __device__ inline std::int64_t tap_chunks(const DepthwiseConvShape& shape) {
  return is_common(shape) ? 1 : ceil_div(shape.taps, kChunk);
}

// A group's share of the gradients of weight and bias, and with TAPS taps the gradient of x: at a token it takes the
// same rows of grad as that of weight,
//     d_x[t] = Σ_k weight[k] · grad[t + left - k]        d_weight[k] = Σ_t x[t] · grad[t + left - k]
// so that all is read once.
template <typename T, int TAPS>
__global__ void __launch_bounds__(kThreads, resident_backward(TAPS))
    correlate(const Correlation call, const std::int64_t first_group, const bool aligned) {
  constexpr int chunk = kChunkTaps<TAPS>;
  constexpr bool exact = TAPS != 0;
  __shared__ Vector<T> grad_rows[2][kTile + chunk - 1][kLanes], x_rows[2][kTile][kLanes];
  __shared__ Table<T, chunk + 1> table;

  const DepthwiseConvShape& shape = call.shape;
  const unsigned steps = static_cast<unsigned>(channel_steps<T>(shape)), unit = blockIdx.x / steps;
  const unsigned chunks = exact ? 1 : static_cast<unsigned>(tap_chunks(shape));
  const Place<T> at(shape.channels, static_cast<int>(blockIdx.x - unit * steps));
  const std::int64_t group = first_group + unit / chunks;
  const int taps = exact ? TAPS : static_cast<int>(shape.taps), tap = static_cast<int>(unit % chunks) * chunk;
  // The rows that a token reads begin with that for the chunk's last tap; this one is its own, if it is among them.
  const int own = tap + chunk - 1 - left_context(shape, false);
  const bool has_own = own >= 0 && own < chunk;

  Sums<T> weights[chunk], products[chunk] = {}, total = {};
  walk_tiles(
      shape.sequences, call.groups, group,
      [&](const TokenTile& tile, int stage) {
        const HeadRows<const T> grad(call.grad, tile, 0), x(call.x, tile, 0);
        load_rows<kThreads>(grad_rows[stage], grad, tile, -own, at.channel, at.channels, aligned);
        load_rows<kThreads>(x_rows[stage], x, tile, 0, at.channel, at.channels, aligned);
      },
      [&](const TokenTile& tile, int stage, bool first) {
        if (exact && first) {
          load_taps<chunk, chunk + 1, T>(table, call.weight, at, 0, taps, true);
          __syncthreads();
          take_taps<T>(weights, table, at);
        }
        if (at.warp_start >= tile.count) return;
        correlate_run<chunk, exact>(products, total, weights, x_rows[stage], grad_rows[stage], at, shape.causal);
        if (!exact && has_own) add_rows(total, grad_rows[stage], own, at);
        if (exact && call.d_x.data != nullptr) {
          __syncwarp();
          store_rows(x_rows[stage], HeadRows<T>(call.d_x, tile, 0), tile, at, aligned);
        }
      });

  // The block's runs add what they have to the table, one after the other.
#pragma unroll 1
  for (int run = 0; run < kRuns<T>; ++run) {
    __syncthreads();
    if (run != at.run) continue;
#pragma unroll
    for (int k = 0; k <= chunk; ++k) {
#pragma unroll
      for (int c = 0; c < kWordChannels<T>; ++c) {
        const sum_t<T> mine = k < chunk ? products[k][c] : total[c];
        sum_t<T>& sum = table[k][at.offset + c];
        sum = run == 0 ? mine : sum + mine;
      }
    }
  }
  __syncthreads();
  sum_t<T>* const share = static_cast<sum_t<T>*>(call.shares) + group * (taps + 1) * shape.channels + at.channel;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < (chunk + 1) * kStepChannels<T>; i += kThreads) {
    const int k = i / kStepChannels<T>, c = i % kStepChannels<T>;
    if (c >= at.channels) continue;
    const int to = tap + chunk - 1 - k;
    if (k < chunk && to < taps) share[to * shape.channels + c] = table[k][c];
    if (k == chunk && has_own) share[taps * shape.channels + c] = table[k][c];
  }
}

__host__ __device__ inline std::int64_t add_steps(const DepthwiseConvShape& shape) {
  return ceil_div(shape.channels, kAddLanes);
}

// Adds up the shares, 32 channels of one tap a block.
template <typename T>
__global__ void __launch_bounds__(kAddLanes* kAddRows)
    add_shares(const Addition call, const std::int64_t first_tap, const bool) {
  __shared__ sum_t<T> sums[kAddRows][kAddLanes];
  const DepthwiseConvShape& shape = call.shape;
  const unsigned steps = static_cast<unsigned>(add_steps(shape)), unit = blockIdx.x / steps;
  const std::int64_t tap = first_tap + unit, pitch = (shape.taps + 1) * shape.channels;
  const int lane = static_cast<int>(threadIdx.x) % kAddLanes, row = static_cast<int>(threadIdx.x) / kAddLanes;
  const std::int64_t channel = static_cast<std::int64_t>(blockIdx.x - unit * steps) * kAddLanes + lane;
  sum_t<T> sum = 0;
  if (channel < shape.channels) {
    const sum_t<T>* share = static_cast<const sum_t<T>*>(call.shares) + tap * shape.channels + channel;
#pragma unroll 8
    for (std::int64_t group = row; group < call.groups; group += kAddRows) sum += share[group * pitch];
  }
  sums[row][lane] = sum;
  __syncthreads();
  if (row != 0 || channel >= shape.channels) return;
#pragma unroll
  for (int i = 1; i < kAddRows; ++i) sum += sums[i][lane];
  if (tap < shape.taps) {
    if (call.d_weight != nullptr) narrow(sum, static_cast<T*>(call.d_weight)[channel * shape.taps + tap]);
  } else if (call.d_bias != nullptr) {
    narrow(sum, static_cast<T*>(call.d_bias)[channel]);
  }
}

template <typename T>
auto choose_convolve(const DepthwiseConvShape& shape) {
  if constexpr (kHasOwn<T>) {
    if (is_common(shape)) {
      constexpr decltype(&convolve_in_chunks<T>) own[] = {convolve<T, 3>,  convolve<T, 5>,  convolve<T, 7>,
                                                          convolve<T, 9>,  convolve<T, 11>, convolve<T, 13>,
                                                          convolve<T, 15>};
      return own[(shape.taps - 3) / 2];
    }
  }
  return &convolve_in_chunks<T>;
}

template <typename T>
auto choose_correlate(const DepthwiseConvShape& shape) {
  if constexpr (kHasOwn<T>) {
    if (is_common(shape)) {
      constexpr decltype(&correlate<T, 0>) own[] = {correlate<T, 3>,  correlate<T, 5>,  correlate<T, 7>,
                                                    correlate<T, 9>,  correlate<T, 11>, correlate<T, 13>,
                                                    correlate<T, 15>};
      return own[(shape.taps - 3) / 2];
    }
  }
  return &correlate<T, 0>;
}

template <typename T>
bool all_aligned(const DepthwiseConvShape& shape, std::initializer_list<const Operand*> operands) {
  const Sequences& s = shape.sequences;
  const std::int64_t rows = s.cu_seqlens != nullptr ? 1 : s.batches;
  for (const Operand* x : operands) {
    if (x->data != nullptr && !is_aligned<T>(*x, rows, s.tokens, 1, shape.channels)) return false;
  }
  return true;
}

// Within a tile and its surroundings the kernels count in 32 bits.
void check_sizes(const char* name, const DepthwiseConvShape& shape) {
  constexpr std::int64_t kMost = kFar / 2;
  if (shape.taps > kMost || shape.channels > kMost) {
    throw std::runtime_error(std::string(name) + ": more than " + std::to_string(kMost) + " taps or channels");
  }
}

// The groups that a call's tiles make where a group has `blocks` blocks. As many as a GPU of 132 multiprocessors can run
// at once with `resident` blocks each: a block begins with its kernels and ends with its share, which more tiles a group
// make up for. Groups of more than 16 tiles are cut further, up to 256 groups, so that the longest does not run alone for
// long. The number is odd, for rows of tokens are often a power of two of tiles: with an even one, the tiles of a group
// could lie at one place of each row, all of them padding.
Groups make_groups(const Sequences& sequences, std::int64_t blocks, std::int64_t resident) {
  const std::int64_t tiles = count_tiles<kTile>(sequences), cut = std::min<std::int64_t>(ceil_div(tiles, 16), 256);
  const std::int64_t most = (std::max(132 * resident / blocks, cut) - 1) | 1;
  return {tiles, tiles <= most ? tiles : ceil_div(tiles, ceil_div(tiles, most)) | 1};
}

template <typename T>
Groups correlation_groups(const DepthwiseConvShape& shape) {
  const int resident = resident_backward(is_common(shape) ? shape.taps : 0);
  return make_groups(shape.sequences, channel_steps<T>(shape) * tap_chunks(shape), resident);
}

template <typename T>
void run_convolve(Convolution call, cudaStream_t stream) {
  const DepthwiseConvShape& shape = call.shape;
  const std::int64_t steps = channel_steps<T>(shape), tiles = count_tiles<kTile>(shape.sequences);
  call.groups = is_common(shape) ? make_groups(shape.sequences, steps, resident_forward(shape.taps)) : Groups{tiles, tiles};
  launch_tiles("depthwise_conv", choose_convolve<T>(shape), call, call.groups.count, steps, kThreads,
               all_aligned<T>(shape, {&call.from, &call.to}), stream);
}

template <typename T>
void run_backward(const DepthwiseConvBackward& call, void* sums, cudaStream_t stream) {
  const DepthwiseConvShape& shape = call.shape;
  const bool sums_wanted = call.d_weight != nullptr || call.d_bias != nullptr;
  const bool together = sums_wanted && is_common(shape);
  if (call.d_x.data != nullptr && !together) {
    run_convolve<T>({shape, {}, call.grad, call.weight, nullptr, call.d_x, true}, stream);
  }
  if (!sums_wanted) return;
  const Operand d_x = together ? call.d_x : Operand{};
  const Correlation both{shape, correlation_groups<T>(shape), call.grad, call.x, call.weight, d_x, sums};
  launch_tiles("depthwise_conv backward", choose_correlate<T>(shape), both, both.groups.count,
               channel_steps<T>(shape) * tap_chunks(shape), kThreads, all_aligned<T>(shape, {&call.grad, &call.x, &d_x}),
               stream);
  const Addition addition{shape, both.groups.count, sums, call.d_weight, call.d_bias};
  launch_tiles("depthwise_conv backward", add_shares<T>, addition, shape.taps + 1, add_steps(shape),
               kAddLanes * kAddRows, false, stream);
}

}  // namespace

void depthwise_conv_forward_cuda(const DepthwiseConvForward& call, std::uintptr_t stream) {
  check_sizes("depthwise_conv", call.shape);
  const auto queue = reinterpret_cast<cudaStream_t>(stream);
  const Convolution convolution{call.shape, {}, call.x, call.weight, call.bias, call.out, false};
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return run_convolve<float>(convolution, queue);
    case DType::kFloat64:
      return run_convolve<double>(convolution, queue);
    case DType::kBFloat16:
      return run_convolve<__nv_bfloat16>(convolution, queue);
    case DType::kFloat16:
      return run_convolve<__half>(convolution, queue);
  }
}

void depthwise_conv_backward_cuda(const DepthwiseConvBackward& call, void* sums, std::uintptr_t stream) {
  check_sizes("depthwise_conv backward", call.shape);
  const auto queue = reinterpret_cast<cudaStream_t>(stream);
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return run_backward<float>(call, sums, queue);
    case DType::kFloat64:
      return run_backward<double>(call, sums, queue);
    case DType::kBFloat16:
      return run_backward<__nv_bfloat16>(call, sums, queue);
    case DType::kFloat16:
      return run_backward<__half>(call, sums, queue);
  }
}

std::int64_t depthwise_conv_sums_cuda(const DepthwiseConvShape& shape) {
  const auto sums = [&](const Groups& groups) { return groups.count * (shape.taps + 1) * shape.channels; };
  switch (shape.dtype) {
    case DType::kFloat32:
      return sums(correlation_groups<float>(shape));
    case DType::kFloat64:
      return sums(correlation_groups<double>(shape));
    case DType::kBFloat16:
      return sums(correlation_groups<__nv_bfloat16>(shape));
    case DType::kFloat16:
      return sums(correlation_groups<__half>(shape));
  }
  return 0;
}

}  // namespace bertkernels
