// Divides the work on sequences of different lengths among threads. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "../sequences.h"
#include "integers.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// The real tokens of one sequence, numbered as the strides want them: within its row (padded) or within all (packed).
struct Span {
  std::int64_t batch, first, count;
  std::int64_t row;  // number of the first one among all tokens, padding included
};

inline Span span_of(const Sequences& s, std::int64_t sequence) {
  if (s.cu_seqlens != nullptr) {
    const std::int64_t first = s.cu_seqlens[sequence];
    return {0, first, s.cu_seqlens[sequence + 1] - first, first};
  }
  return {sequence, 0, s.lengths != nullptr ? s.lengths[sequence] : s.tokens, sequence * s.tokens};
}

inline std::int64_t longest_span(const Sequences& s) {
  std::int64_t longest = 0;
  for (std::int64_t b = 0; b < s.batches; ++b) longest = larger(longest, span_of(s, b).count);
  return longest;
}

// A sequence's tasks, all of one cost.
struct Work {
  std::int64_t tasks, cost;
};

// All sequences' tasks, and their cost together.
template <typename WorkOf>
Work total_work(std::int64_t sequences, WorkOf work_of) {
  Work total{0, 0};
  for (std::int64_t b = 0; b < sequences; ++b) {
    const Work work = work_of(b);
    total.tasks += work.tasks;
    total.cost += work.tasks * work.cost;
  }
  return total;
}

// Calls run(sequence, task) for one of `parts` shares of the tasks, in order: those that begin in its share of the cost.
template <typename WorkOf, typename Run>
void run_share(std::int64_t sequences, const Work& total, int part, int parts, WorkOf work_of, Run run) {
  const std::int64_t whole = total.cost / parts, rest = total.cost % parts;
  const std::int64_t low = whole * part + rest * part / parts;
  const std::int64_t high = whole * (part + 1) + rest * (part + 1) / parts;
  std::int64_t before = 0;
  for (std::int64_t b = 0; b < sequences; ++b) {
    const Work work = work_of(b);
    if (work.tasks == 0) continue;
    const std::int64_t first = larger(0, ceil_div(low - before, work.cost));
    const std::int64_t last = smaller(work.tasks, ceil_div(high - before, work.cost));
    for (std::int64_t task = first; task < last; ++task) run(b, task);
    before += work.tasks * work.cost;
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
