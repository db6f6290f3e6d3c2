// Cuts the tokens into tiles that lie within one sequence each, without knowing the sequences on the host.
#pragma once

#include <cstdint>

#include "../sequences.h"

namespace bertkernels {

// `count` tokens of one sequence from token `first` of row `batch` on; in the packed form all tokens are row 0. Of the
// tokens first + i, those with begin ≤ i < end are the sequence's real ones. i is small: bounds are cut at ±kFar.
struct TokenTile {
  std::int64_t batch, first;
  int count;  // ≤ 0: nothing to do
  int begin, end;
};

constexpr int kFar = 1 << 30;

// How many tiles `token_tile` numbers. In the packed form the sequences are unknown here: the bound takes a part-filled
// tile a sequence, and the tiles left over come out empty.
template <int TILE>
inline std::int64_t count_tiles(const Sequences& s) {
  if (s.cu_seqlens != nullptr) return s.tokens / TILE + s.batches + 1;
  return s.batches * ((s.tokens + TILE - 1) / TILE);
}

__device__ __forceinline__ std::int64_t clamp(std::int64_t x, std::int64_t low, std::int64_t high) {
  return x < low ? low : (x > high ? high : x);
}

// 64-bit division is a long subroutine on GPUs; most numbers are small.
__device__ __forceinline__ std::int64_t divide(std::int64_t a, std::int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
  return a / b;
}

// Where packed sequence `i` begins; whatever cu_seqlens holds, sequences 0 … batches - 1 and one more that no token is
// real in (what cu_seqlens leaves out at the end) cover all tokens.
__device__ __forceinline__ std::int64_t packed_begin(const Sequences& s, std::int64_t i) {
  if (i == 0) return 0;
  return i > s.batches ? s.tokens : clamp(s.cu_seqlens[i], 0, s.tokens);
}

// The tile with this number, of at most TILE tokens.
template <int TILE>
__device__ __forceinline__ TokenTile token_tile(const Sequences& s, std::int64_t index) {
  std::int64_t begin, end, stop;  // of real tokens, of the tokens to write
  TokenTile tile;
  if (s.cu_seqlens == nullptr) {
    const std::int64_t row_tiles = (s.tokens + TILE - 1) / TILE;
    tile.batch = divide(index, row_tiles);
    tile.first = (index - tile.batch * row_tiles) * TILE;
    begin = 0;
    end = s.lengths != nullptr ? clamp(s.lengths[tile.batch], 0, s.tokens) : s.tokens;
    stop = s.tokens;
  } else {
    // Sequence i owns the tile numbers from begin / TILE + i up to those of sequence i + 1: never fewer than it needs.
    std::int64_t low = 0, high = s.batches + 1;
    while (high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      if (packed_begin(s, middle) / TILE + middle <= index) {
        low = middle;
      } else {
        high = middle;
      }
    }
    tile.batch = 0;
    begin = packed_begin(s, low);
    stop = packed_begin(s, low + 1);
    end = low < s.batches ? stop : begin;
    tile.first = begin + (index - begin / TILE - low) * TILE;
  }
  tile.count = static_cast<int>(clamp(stop - tile.first, -kFar, TILE));
  tile.begin = static_cast<int>(clamp(begin - tile.first, -kFar, kFar));
  tile.end = static_cast<int>(clamp(end - tile.first, -kFar, kFar));
  return tile;
}

}  // namespace bertkernels
