// The arithmetic of depthwise_conv on one tile of tokens and one step of channels, on rows that lie in shared memory.
// A thread owns one word of channels (its lane) of kRun consecutive tokens (its run): narrower than the vectors that
// rows are moved by, for it keeps a kernel a channel in registers. A warp's runs follow each other.
#pragma once

#include <type_traits>

#include "tile_io.cuh"

namespace bertkernels {

constexpr int kTile = 64;  // tokens
constexpr int kThreads = 128;
constexpr int kWarpThreads = 32;
constexpr int kWarpRows = kTile / (kThreads / kWarpThreads);  // tokens of a warp

template <typename T>
constexpr int kWordChannels = sizeof(T) < 4 ? 2 : 1;
template <typename T>
constexpr int kWords = kStepChannels<T> / kWordChannels<T>;  // of a row
template <typename T>
constexpr int kRuns = kThreads / kWords<T>;  // of a tile
template <typename T>
constexpr int kRun = kTile / kRuns<T>;

template <typename T>
using Sums = sum_t<T>[kWordChannels<T>];

// Words are moved as integers, so that the compiler never splits the access.
template <typename T>
struct Word {
  using Bits = std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned>;
  alignas(Bits) T x[kWordChannels<T>];
};

template <typename T>
__device__ __forceinline__ void load_word(const Vector<T> (&row)[kLanes], int lane, Sums<T>& to) {
  using Bits = typename Word<T>::Bits;
  Word<T> word;
  *reinterpret_cast<Bits*>(&word) = reinterpret_cast<const Bits*>(row)[lane];
#pragma unroll
  for (int c = 0; c < kWordChannels<T>; ++c) to[c] = widen(word.x[c]);
}

template <typename T>
__device__ __forceinline__ void store_word(const Sums<T>& from, Vector<T> (&row)[kLanes], int lane) {
  using Bits = typename Word<T>::Bits;
  Word<T> word;
  if constexpr (kWordChannels<T> == 2) {
    narrow_pair(from[0], from[1], word.x);
  } else {
    narrow(from[0], word.x[0]);
  }
  reinterpret_cast<Bits*>(row)[lane] = *reinterpret_cast<const Bits*>(&word);
}

// What a thread works on: a lane of the step's channels, and a run of each tile's tokens.
template <typename T>
struct Place {
  int channel, channels;  // the step's first channel, and how many the row has from there on
  int run, start;         // the run's number and first token
  int lane, offset;       // the lane's number and first channel, within the step
  int warp_start;         // the first token of the warp's runs

  __device__ __forceinline__ Place(std::int64_t all_channels, int step) {
    const int thread = static_cast<int>(threadIdx.x);
    channel = step * kStepChannels<T>;
    channels = static_cast<int>(all_channels) - channel;
    run = thread / kWords<T>;
    start = run * kRun<T>;
    lane = thread % kWords<T>;
    offset = lane * kWordChannels<T>;
    warp_start = thread / kWarpThreads * kWarpRows;
  }
};

// Copies the warp's rows of `rows`, which hold the tile's tokens from the first one on, to memory: zeros for tokens that
// are not real, nothing past the tile's end. __syncwarp() before.
template <int ROWS, typename T>
__device__ __forceinline__ void store_rows(const Vector<T> (&rows)[ROWS][kLanes], const HeadRows<T>& to,
                                           const TokenTile& tile, const Place<T>& at, bool aligned) {
  constexpr int width = kVectorWidth<T>, row_channels = kStepChannels<T>;
  const int thread = static_cast<int>(threadIdx.x) % kWarpThreads;
  if (aligned) {
    const int lane = thread % kLanes;
    if (lane * width >= at.channels) return;
#pragma unroll
    for (int i = 0; i < kWarpRows; i += kWarpThreads / kLanes) {
      const int row = at.warp_start + i + thread / kLanes;
      if (row >= tile.count) break;
      const uint4 vector = *reinterpret_cast<const uint4*>(&rows[row][lane]);
      *reinterpret_cast<uint4*>(to[row] + at.channel + lane * width) = row < tile.end ? vector : uint4{};
    }
  } else {
#pragma unroll 1
    for (int i = thread; i < kWarpRows * row_channels; i += kWarpThreads) {
      const int row = at.warp_start + i / row_channels, c = i % row_channels;
      if (row >= tile.count || c >= at.channels) continue;
      to[row][at.channel + c] = row < tile.end ? rows[row][c / width].x[c % width] : T{};
    }
  }
}

// Numbers of a step's channels, a row a tap.
template <typename T, int ROWS>
using Table = sum_t<T>[ROWS][kStepChannels<T>];

// table[k] = tap `tap + k` of the kernels of the step's channels, counted from the last of `taps` taps where `reversed`;
// zeros beyond. `weight` has a row a channel. All threads take part; __syncthreads() before use.
template <int TAPS, int ROWS, typename T>
__device__ __forceinline__ void load_taps(Table<T, ROWS>& table, const Operand& weight, const Place<T>& at, int tap,
                                          int taps, bool reversed) {
  static_assert(TAPS <= ROWS, "a row a tap");
  static_assert(kThreads % kStepChannels<T> == 0, "a thread keeps to one channel");
  const int c = static_cast<int>(threadIdx.x) % kStepChannels<T>;
  const T* row = static_cast<const T*>(weight.data) + (at.channel + c) * weight.token;
  for (int k = static_cast<int>(threadIdx.x) / kStepChannels<T>; k < TAPS; k += kThreads / kStepChannels<T>) {
    const int from = reversed ? taps - 1 - tap - k : tap + k;
    table[k][c] = c < at.channels && tap + k < taps ? widen(row[from]) : sum_t<T>(0);
  }
}

template <typename T, int TAPS, int ROWS>
__device__ __forceinline__ void take_taps(Sums<T> (&weights)[TAPS], const Table<T, ROWS>& table, const Place<T>& at) {
#pragma unroll
  for (int k = 0; k < TAPS; ++k) {
#pragma unroll
    for (int c = 0; c < kWordChannels<T>; ++c) weights[k][c] = table[k][at.offset + c];
  }
}

// Tokens of a run that code is written out for at once; more taps make the code longer, and the compiler slow.
template <typename T, int TAPS>
constexpr int kStretch = TAPS <= 9 ? kRun<T> : kRun<T> / 2;

// sums[r] += Σ_k weights[k] · rows[start + r + k] over the first `count` of TAPS taps.
template <int TAPS, int ROWS, typename T>
__device__ __forceinline__ void add_taps(Sums<T> (&sums)[kRun<T>], const Sums<T> (&weights)[TAPS],
                                         const Vector<T> (&rows)[ROWS][kLanes], const Place<T>& at, int count) {
  static_assert(ROWS == kTile + TAPS - 1, "the rows that a tile reads");
#pragma unroll
  for (int i = 0; i < kRun<T> + TAPS - 1; ++i) {
    Sums<T> row;
    load_word(rows[at.start + i], at.lane, row);
#pragma unroll
    for (int k = 0; k < TAPS; ++k) {
      const int r = i - k;
      if (r < 0 || r >= kRun<T> || k >= count) continue;
#pragma unroll
      for (int c = 0; c < kWordChannels<T>; ++c) sums[r][c] += weights[k][c] * row[c];
    }
  }
}

// to[start + r] = first + Σ_k weights[k] · rows[start + r + k] for the run's tokens.
template <int TAPS, int ROWS, typename T>
__device__ __forceinline__ void convolve_run(Vector<T> (&to)[kTile][kLanes], const Sums<T>& first,
                                             const Sums<T> (&weights)[TAPS], const Vector<T> (&rows)[ROWS][kLanes],
                                             const Place<T>& at) {
  static_assert(ROWS == kTile + TAPS - 1, "the rows that a tile reads");
  constexpr int stretch = kStretch<T, TAPS>;
#pragma unroll 1
  for (int start = at.start; start < at.start + kRun<T>; start += stretch) {
    Sums<T> latest[TAPS];  // row i from `start` on is in latest[i % TAPS]
#pragma unroll
    for (int i = 0; i < stretch + TAPS - 1; ++i) {
      load_word(rows[start + i], at.lane, latest[i % TAPS]);
      const int r = i - (TAPS - 1);
      if (r < 0) continue;
      Sums<T> sums;
#pragma unroll
      for (int c = 0; c < kWordChannels<T>; ++c) {
        sums[c] = first[c];
#pragma unroll
        for (int k = 0; k < TAPS; ++k) sums[c] += weights[k][c] * latest[(r + k) % TAPS][c];
      }
      store_word(sums, to[start + r], at.lane);
    }
  }
}

// sums += Σ_r rows[first + start + r] over the run's tokens.
template <int ROWS, typename T>
__device__ __forceinline__ void add_rows(Sums<T>& sums, const Vector<T> (&rows)[ROWS][kLanes], int first,
                                         const Place<T>& at) {
#pragma unroll
  for (int r = 0; r < kRun<T>; ++r) {
    Sums<T> row;
    load_word(rows[first + at.start + r], at.lane, row);
#pragma unroll
    for (int c = 0; c < kWordChannels<T>; ++c) sums[c] += row[c];
  }
}

// For the run's tokens, products[k] += x[start + r] · rows[start + r + k]. EXACT: also puts Σ_k weights[k] ·
// rows[start + r + k] in x's place, and adds to `total` the token's own row, which is row 0 if `causal`, else TAPS / 2.
template <int TAPS, bool EXACT, int ROWS, typename T>
__device__ __forceinline__ void correlate_run(Sums<T> (&products)[TAPS], Sums<T>& total, const Sums<T> (&weights)[TAPS],
                                              Vector<T> (&x)[kTile][kLanes], const Vector<T> (&rows)[ROWS][kLanes],
                                              const Place<T>& at, bool causal) {
  static_assert(ROWS == kTile + TAPS - 1, "the rows that a tile reads");
  constexpr int stretch = kStretch<T, TAPS>;
#pragma unroll 1
  for (int start = at.start; start < at.start + kRun<T>; start += stretch) {
    Sums<T> latest[TAPS];  // row i from `start` on is in latest[i % TAPS]
#pragma unroll
    for (int i = 0; i < stretch + TAPS - 1; ++i) {
      Sums<T>& row = latest[i % TAPS];
      load_word(rows[start + i], at.lane, row);
      // compared with constants, this costs nothing
      if (EXACT && (causal ? i < stretch : i >= TAPS / 2 && i < TAPS / 2 + stretch)) {
#pragma unroll
        for (int c = 0; c < kWordChannels<T>; ++c) total[c] += row[c];
      }
      const int r = i - (TAPS - 1);
      if (r < 0) continue;
      Sums<T> factor, sums = {};
      load_word(x[start + r], at.lane, factor);
#pragma unroll
      for (int c = 0; c < kWordChannels<T>; ++c) {
#pragma unroll
        for (int k = 0; k < TAPS; ++k) {
          products[k][c] += factor[c] * latest[(r + k) % TAPS][c];
          if (EXACT) sums[c] += weights[k][c] * latest[(r + k) % TAPS][c];
        }
      }
      if (EXACT) store_word(sums, x[start + r], at.lane);
    }
  }
}

}  // namespace bertkernels
