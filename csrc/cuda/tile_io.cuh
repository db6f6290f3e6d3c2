// Moves rows of one head between global and shared memory. A tile row holds kLanes vectors, one a lane; a row of more
// channels is worked on in several steps of kLanes vectors.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <cstdint>

#include "../operand.h"
#include "numbers.cuh"
#include "token_tile.cuh"

namespace bertkernels {

constexpr int kLanes = 8;  // × 16 bytes: each row of a tile is one 128-byte line

template <typename T>
constexpr int kStepChannels = kLanes * kVectorWidth<T>;

// One head of the tokens of a tile and around it: token i, counted from the tile's first, is at base + i · stride.
template <typename T>
struct HeadRows {
  T* base;
  std::int64_t stride;
  __device__ __forceinline__ HeadRows(const Operand& x, const TokenTile& tile, std::int64_t head)
      : base(static_cast<T*>(x.data) + tile.batch * x.batch + tile.first * x.token + head * x.head), stride(x.token) {}
  __device__ __forceinline__ T* operator[](int i) const { return base + i * stride; }
};

// Whether all rows of `x` may be accessed in vectors. Strides of dimensions of one element play no part.
template <typename T>
bool is_aligned(const Operand& x, std::int64_t batches, std::int64_t tokens, std::int64_t heads, std::int64_t width) {
  const auto fits = [](std::int64_t n) { return n % kVectorWidth<T> == 0; };
  return reinterpret_cast<std::uintptr_t>(x.data) % kVectorBytes == 0 && fits(width) &&
         (batches <= 1 || fits(x.batch)) && (tokens <= 1 || fits(x.token)) && (heads <= 1 || fits(x.head));
}

// Starts to fill rows[i] with `channels` channels from `channel` on of the tile's token first + i; channels beyond, and
// tokens that are not real, become zeros without being read. All threads take part; wait_for_rows() and __syncthreads()
// before use.
template <int THREADS, int ROWS, typename T>
__device__ __forceinline__ void load_rows(Vector<T> (&rows)[ROWS][kLanes], const HeadRows<const T>& from,
                                          const TokenTile& tile, int first, int channel, int channels,
                                          bool aligned) {
  constexpr int width = kVectorWidth<T>;
  if (aligned) {
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    for (int row = static_cast<int>(threadIdx.x) / kLanes; row < ROWS; row += THREADS / kLanes) {
      const int token = first + row;
      if (token >= tile.begin && token < tile.end && lane * width < channels) {
        __pipeline_memcpy_async(&rows[row][lane], from[token] + channel + lane * width, kVectorBytes);
      } else {
        *reinterpret_cast<uint4*>(&rows[row][lane]) = uint4{};
      }
    }
    __pipeline_commit();
  } else {
    static_assert(THREADS % kStepChannels<T> == 0, "a thread keeps to one channel");
    const int c = static_cast<int>(threadIdx.x) % kStepChannels<T>;
#pragma unroll 4
    for (int row = static_cast<int>(threadIdx.x) / kStepChannels<T>; row < ROWS; row += THREADS / kStepChannels<T>) {
      const int token = first + row;
      const bool inside = token >= tile.begin && token < tile.end && c < channels;
      rows[row][c / width].x[c % width] = inside ? from[token][channel + c] : T{};
    }
  }
}

__device__ __forceinline__ void wait_for_rows() { __pipeline_wait_prior(0); }

// Writes a lane's sums to a row that has `channels` more channels from `to` on (none: nothing is written).
template <typename T>
__device__ __forceinline__ void store_row(const sum_t<T> (&sums)[kVectorWidth<T>], T* to, int channels, bool aligned) {
  if (aligned) {
    if (channels > 0) store_vector(sums, to);
  } else {
#pragma unroll
    for (int i = 0; i < kVectorWidth<T>; ++i) {
      if (i < channels) narrow(sums[i], to[i]);
    }
  }
}

}  // namespace bertkernels
