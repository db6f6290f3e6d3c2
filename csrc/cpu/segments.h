// Walks a range of flat token numbers in pieces that lie within one sequence. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "../sequences.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// A run of `count` tokens of one sequence. Tokens are numbered within their row (padded) or within all (packed), as the
// strides want them; those with begin ≤ t < end are the sequence's real tokens.
struct Segment {
  std::int64_t batch, token, count, begin, end;
};

inline std::int64_t flat_tokens(const Sequences& s) {
  return s.cu_seqlens != nullptr ? s.tokens : s.batches * s.tokens;
}

// The segment that starts at flat token number `flat`, of at most `limit` tokens.
inline Segment segment_at(const Sequences& s, std::int64_t flat, std::int64_t limit) {
  Segment segment;
  std::int64_t row_end;
  if (s.cu_seqlens != nullptr) {
    std::int64_t low = 0, high = s.batches;  // cu_seqlens[low] ≤ flat < cu_seqlens[high]
    while (high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      if (s.cu_seqlens[middle] <= flat) {
        low = middle;
      } else {
        high = middle;
      }
    }
    segment.batch = 0;
    segment.token = flat;
    segment.begin = s.cu_seqlens[low];
    segment.end = row_end = s.cu_seqlens[high];
  } else {
    segment.batch = flat / s.tokens;
    segment.token = flat - segment.batch * s.tokens;
    segment.begin = 0;
    segment.end = s.lengths != nullptr ? s.lengths[segment.batch] : s.tokens;
    row_end = s.tokens;
  }
  const std::int64_t left = row_end - segment.token;
  segment.count = left < limit ? left : limit;
  return segment;
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
