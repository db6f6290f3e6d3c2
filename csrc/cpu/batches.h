// Takes sequences in batches that fit the caches. Included by per-instruction-set sources.
#pragma once

#include <stdlib.h>

#include <cstdint>

#include "../operand.h"
#include "../sequences.h"
#include "integers.h"
#include "product.h"
#include "scratch.h"
#include "work.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kCacheFloats = 1 << 19;  // what a thread's share of the buffers may take: two megabytes

// Consecutive sequences that are computed together, of n tokens in all.
struct Batch {
  std::int64_t first, sequences;  // numbers of the first sequence and of sequences
  std::int64_t row, n;            // the first token among all, and tokens
  Sequences layout;               // of these alone
};

// The next batch after `sequence` sequences: as many as bring it nearest to `end` tokens from the first one of all.
inline Batch next_batch(const Sequences& sequences, std::int64_t sequence, std::int64_t row, std::int64_t end) {
  Batch b{};
  b.first = sequence;
  b.row = row;
  for (; sequence < sequences.batches; ++sequence) {
    const std::int64_t count = span_of(sequences, sequence).count;
    if (b.sequences > 0 && row + b.n + count / 2 > end) break;
    b.n += count;
    b.sequences += 1;
  }
  return b;
}

// Calls run(batch, scratch) for all sequences (none of which has a length of its own) in batches of as many tokens as
// the threads' caches have room for, and no less than a sequence; scratch holds `per_token` floats a token. False where
// there is no memory, or run has none.
template <typename Run>
bool for_each_batch(const Sequences& sequences, std::int64_t per_token, int threads, Run run) {
  const std::int64_t most = threads * larger(kMostRows, kCacheFloats / per_token);
  const std::int64_t total = sequences.cu_seqlens != nullptr ? sequences.tokens : sequences.batches * sequences.tokens;
  const std::int64_t batches = ceil_div(total, most);
  bool enough = true;
  float* scratch = nullptr;
  std::int64_t room = 0, sequence = 0, row = 0;
  std::int32_t* const starts = allocate<std::int32_t>(sequences.batches + 1);
  if (starts == nullptr) return false;
  for (std::int64_t i = 1; sequence < sequences.batches && enough; ++i) {
    Batch b = next_batch(sequences, sequence, row, total * smaller(i, batches) / batches);
    if (b.n > room) {
      give_back(scratch);
      room = b.n;
      scratch = borrow(room * per_token);
    }
    b.layout = {b.sequences, sequences.tokens, nullptr, nullptr};
    if (sequences.cu_seqlens != nullptr) {
      for (std::int64_t s = 0; s <= b.sequences; ++s) {
        starts[s] = sequences.cu_seqlens[sequence + s] - sequences.cu_seqlens[sequence];
      }
      b.layout = {b.sequences, b.n, nullptr, starts};
    }
    if (b.n > 0) enough = scratch != nullptr && run(b, scratch);
    sequence += b.sequences;
    row += b.n;
  }
  free(starts);
  give_back(scratch);
  return enough;
}

// Rows of a batch's tokens as its layout counts them, in heads of `width` channels (0: without heads).
inline Operand rows_of(const Batch& b, float* rows, std::int64_t stride, std::int64_t width) {
  return {rows, b.layout.cu_seqlens != nullptr ? 0 : b.layout.tokens * stride, stride, width};
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
