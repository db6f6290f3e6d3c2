// The arithmetic of light_conv on one tile of tokens and one step of channels, on rows that lie in shared memory.
// A thread owns one vector of channels (its lane) of kRun consecutive tokens (its run), so that it reads each row once
// for all the taps and tokens that use it.
#pragma once

#include "tile_io.cuh"

namespace bertkernels {

constexpr int kRun = 4;
constexpr int kTile = 64;  // tokens of a block
constexpr int kThreads = kTile / kRun * kLanes;
constexpr unsigned kWarp = 0xffffffffu;

// Row length of weights in shared memory: odd, so that the runs of a warp read different banks.
template <int TAPS>
constexpr int kPaddedTaps = TAPS | 1;

// weights[i] = taps tap … tap + TAPS - 1 of the weights of the tile's token first + i; zeros for tokens that are not
// real. EXACT: TAPS is all there is. Else the softmax runs over all `taps` of them, and columns beyond hold nothing of
// use.
template <int TAPS, bool EXACT, int ROWS, typename T>
__device__ __forceinline__ void load_weights(sum_t<T> (&weights)[ROWS][kPaddedTaps<TAPS>],
                                             const HeadRows<const T>& logits, const TokenTile& tile, int first,
                                             int taps, int tap, bool softmax) {
  using A = sum_t<T>;
  for (int row = static_cast<int>(threadIdx.x); row < ROWS; row += kThreads) {
    const int token = first + row;
    A x[TAPS] = {};
    if (token >= tile.begin && token < tile.end) {
      const T* from = logits[token];
#pragma unroll
      for (int k = 0; k < TAPS; ++k) {
        if (EXACT || tap + k < taps) x[k] = widen(from[tap + k]);
      }
      if (softmax) {
        A most, sum = 0;
        if (EXACT) {
          most = x[0];
#pragma unroll
          for (int k = 1; k < TAPS; ++k) most = x[k] > most ? x[k] : most;
        } else {
          most = widen(from[0]);
          for (int k = 1; k < taps; ++k) {
            const A other = widen(from[k]);
            most = other > most ? other : most;
          }
          for (int k = 0; k < taps; ++k) sum += exponential(widen(from[k]) - most);
        }
#pragma unroll
        for (int k = 0; k < TAPS; ++k) {
          x[k] = exponential(x[k] - most);
          if (EXACT) sum += x[k];
        }
        const A scale = A(1) / sum;
#pragma unroll
        for (int k = 0; k < TAPS; ++k) x[k] *= scale;
      }
    }
#pragma unroll
    for (int k = 0; k < TAPS; ++k) weights[row][k] = x[k];
  }
}

// sums[r] += Σ_k weight(r, k) · rows[start + r + k] over the first `count` of TAPS taps; start is the run's first token
// within its tile. The weight is weights[start + r][k], the token's own; MIRRORED, it is
// weights[start + r + k][TAPS - 1 - k], the one with which the token at that row reads this one; there the mirrored
// tap, TAPS - 1 - k, is below `count`.
template <int TAPS, bool MIRRORED, int ROWS, int WEIGHT_ROWS, typename T>
__device__ __forceinline__ void add_taps(sum_t<T> (&sums)[kRun][kVectorWidth<T>], const Vector<T> (&rows)[ROWS][kLanes],
                                         const sum_t<T> (&weights)[WEIGHT_ROWS][kPaddedTaps<TAPS>], int start, int lane,
                                         int count) {
  constexpr int width = kVectorWidth<T>;
#pragma unroll
  for (int i = 0; i < kRun + TAPS - 1; ++i) {
    sum_t<T> row[width];
    load_vector(rows[start + i][lane], row);
#pragma unroll
    for (int r = 0; r < kRun; ++r) {
      const int k = i - r;
      const int tap = MIRRORED ? TAPS - 1 - k : k;
      if (k < 0 || k >= TAPS || tap >= count) continue;
      const sum_t<T> weight = MIRRORED ? weights[start + i][tap] : weights[start + r][tap];
#pragma unroll
      for (int c = 0; c < width; ++c) sums[r][c] += weight * row[c];
    }
  }
}

// products[r · TAPS + k] += grads[grad_start + r] · rows[start + r + k], over the lane's channels.
template <int TAPS, int GRAD_ROWS, int ROWS, typename T>
__device__ __forceinline__ void add_products(sum_t<T> (&products)[kRun * TAPS],
                                             const Vector<T> (&grads)[GRAD_ROWS][kLanes], int grad_start,
                                             const Vector<T> (&rows)[ROWS][kLanes], int start, int lane) {
  constexpr int width = kVectorWidth<T>;
  sum_t<T> grad[kRun][width];
#pragma unroll
  for (int r = 0; r < kRun; ++r) load_vector(grads[grad_start + r][lane], grad[r]);
#pragma unroll
  for (int i = 0; i < kRun + TAPS - 1; ++i) {
    sum_t<T> row[width];
    load_vector(rows[start + i][lane], row);
#pragma unroll
    for (int r = 0; r < kRun; ++r) {
      const int k = i - r;
      if (k < 0 || k >= TAPS) continue;
#pragma unroll
      for (int c = 0; c < width; ++c) products[r * TAPS + k] += grad[r][c] * row[c];
    }
  }
}

// Adds x over the lanes of a run, halving what each lane keeps at every step: the lanes whose bit OFFSET is set go on
// with the upper half. The order of additions is fixed.
template <int COUNT, int OFFSET, typename A>
__device__ __forceinline__ void fold_lanes(A* x, int lane) {
  constexpr int half = (COUNT + 1) / 2;
  const bool upper = (lane & OFFSET) != 0;
#pragma unroll
  for (int i = 0; i < half; ++i) {
    const A low = x[i], high = i + half < COUNT ? x[i + half] : A(0);
    x[i] = (upper ? high : low) + __shfl_xor_sync(kWarp, upper ? low : high, OFFSET);
  }
  if constexpr (OFFSET > 1) fold_lanes<half, OFFSET / 2>(x, lane);
}

// What a lane holds once the products [kRun, TAPS] of its run are folded: with two lanes a token, taps first_tap …
// first_tap + kept - 1 (as far as they are below TAPS) of token `token` of the run.
template <int TAPS>
struct FoldedTaps {
  static_assert(kLanes == 2 * kRun, "two lanes a token");
  static constexpr int kept = (TAPS + 1) / 2;
  int token, first_tap;
  __device__ __forceinline__ explicit FoldedTaps(int lane) : token(lane / 2), first_tap(lane % 2 * kept) {}
};

}  // namespace bertkernels
