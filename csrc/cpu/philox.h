// Random bits that are a function of a seed and an element's index alone (Philox4x32-10; Salmon et al. 2011, "Parallel
// random numbers: as easy as 1, 2, 3"), so that a backward pass draws the forward pass's dropout mask anew, in any order
// and on any number of threads. Element i gets word i % 4 of the block with counter i / 4 under the key `seed`, here and in
// every other implementation. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// Each 64-bit lane holds a 32-bit word; its upper half is not read.
typedef std::uint64_t Words __attribute__((vector_size(kVectorBytes)));

constexpr int kRandomVectors = 2;  // worked on together, to hide the latency of products
constexpr int kRandomBlocks = kRandomVectors * (kVectorBytes / 8);
constexpr int kRandomPiece = 4 * kRandomBlocks;  // elements

inline Words multiply_words(Words x, Words constant) {
#if defined(__AVX512F__)
  return reinterpret_cast<Words>(
      _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(constant)));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_mul_epu32(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(constant)));
#elif defined(__SSE2__)
  return reinterpret_cast<Words>(_mm_mul_epu32(reinterpret_cast<__m128i>(x), reinterpret_cast<__m128i>(constant)));
#else
  return (x & 0xffffffffu) * constant;
#endif
}

// The four words of kRandomBlocks counters, each in place of its counter's.
inline void philox(std::uint64_t seed, Words (&c0)[kRandomVectors], Words (&c1)[kRandomVectors],
                   Words (&c2)[kRandomVectors], Words (&c3)[kRandomVectors]) {
  Words k0 = Words{} + seed, k1 = Words{} + (seed >> 32);
  const Words multiplier0 = Words{} + 0xD2511F53u, multiplier1 = Words{} + 0xCD9E8D57u;
  for (int round = 0; round < 10; ++round) {
    for (int v = 0; v < kRandomVectors; ++v) {
      const Words a = multiply_words(c0[v], multiplier0), b = multiply_words(c2[v], multiplier1);
      c0[v] = (b >> 32) ^ c1[v] ^ k0;
      c1[v] = b;
      c2[v] = (a >> 32) ^ c3[v] ^ k1;
      c3[v] = a;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// Bits of kRandomPiece elements, of which the first has the index 4·block.
inline void random_piece(std::uint64_t seed, std::uint64_t block, std::uint32_t* bits) {
  std::uint64_t first[kRandomBlocks], second[kRandomBlocks];  // of each block, words 0 and 1, and words 2 and 3
  for (int i = 0; i < kRandomBlocks; ++i) first[i] = block + i;
  Words c0[kRandomVectors], c1[kRandomVectors], c2[kRandomVectors] = {}, c3[kRandomVectors] = {};
  __builtin_memcpy(c0, first, sizeof(c0));
  for (int v = 0; v < kRandomVectors; ++v) c1[v] = c0[v] >> 32;
  philox(seed, c0, c1, c2, c3);
  for (int v = 0; v < kRandomVectors; ++v) {
    c0[v] = (c0[v] & 0xffffffffu) | (c1[v] << 32);
    c2[v] = (c2[v] & 0xffffffffu) | (c3[v] << 32);
  }
  __builtin_memcpy(first, c0, sizeof(c0));
  __builtin_memcpy(second, c2, sizeof(c2));
  for (int i = 0; i < kRandomBlocks; ++i) {
    __builtin_memcpy(bits + 4 * i, first + i, 8);  // little-endian: word 0, then word 1
    __builtin_memcpy(bits + 4 * i + 2, second + i, 8);
  }
}

// 32 uniform bits for each of the elements index, …, index + count - 1; index is a multiple of 4, and `bits` has room for
// count rounded up to whole pieces.
inline void random_bits(std::uint64_t seed, std::uint64_t index, std::int64_t count, std::uint32_t* bits) {
  for (std::int64_t i = 0; i < count; i += kRandomPiece) random_piece(seed, (index + i) / 4, bits + i);
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
