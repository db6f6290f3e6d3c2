// What happens to a tile of scores between the matrix products: keys down, queries across, so that a vector holds the
// scores of as many queries and their maxima and sums need no work across lanes. Included by per-instruction-set sources.
#pragma once

#include <cstdint>

#include "attention_rows.h"
#include "integers.h"
#include "multiply.h"
#include "philox.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// What is added to the scores of each key. The scores then count from its largest entry: with masks of -3e38 the
// logarithm of a sum would be lost beside the largest score.
template <typename A>
struct KeyBias {
  const A* values = nullptr;  // null: nothing is added
  A top = 0;

  typename Vector<A>::type apply(typename Vector<A>::type scores, std::int64_t key) const {
    return values == nullptr ? scores : (scores + values[key]) - top;
  }
};

template <typename A>
KeyBias<A> key_bias(const A* values, std::int64_t keys) {
  A top = -__builtin_inf();
  for (std::int64_t k = 0; k < keys; ++k) top = values[k] > top ? values[k] : top;
  return {values, top == -__builtin_inf() ? A(0) : top};
}

// The running softmax of each query: the largest score so far and the sum of e^(score - largest).
template <typename A>
struct Running {
  A* most;
  A* sum;
  A* shrink;  // what all that was summed before the last tile is to be multiplied by
};

template <int N, typename A>
void softmax_vectors(A* scores, std::int64_t keys, std::int64_t columns, const KeyBias<A>& bias,
                     const Running<A>& running) {
  using V = typename Vector<A>::type;
  constexpr int lanes = Vector<A>::lanes;
  V most[N], base[N], sum[N];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) most[n] = load(running.most + n * lanes);
  for (std::int64_t k = 0; k < keys; ++k) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      A* at = scores + k * columns + n * lanes;
      V x = load(at);
      if (bias.values != nullptr) store(at, x = bias.apply(x, k));
      most[n] = x > most[n] ? x : most[n];
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    // where nothing may be attended, any finite number will do: all exponentials are 0
    base[n] = most[n] == -__builtin_inf() ? V{} : most[n];
    sum[n] = V{};
    store(running.shrink + n * lanes, exp_nonpositive(load(running.most + n * lanes) - base[n]));
    store(running.most + n * lanes, most[n]);
  }
  for (std::int64_t k = 0; k < keys; ++k) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      A* at = scores + k * columns + n * lanes;
      const V e = exp_nonpositive(load(at) - base[n]);
      store(at, e);
      sum[n] += e;
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    const V before = load(running.sum + n * lanes) * load(running.shrink + n * lanes);
    store(running.sum + n * lanes, before + sum[n]);
  }
}

// scores [keys, columns] → e^(score - largest), and `running` brought up to date.
template <typename A>
void softmax_tile(A* scores, std::int64_t keys, std::int64_t columns, const KeyBias<A>& bias,
                  const Running<A>& running) {
  switch (columns / Vector<A>::lanes) {
    case 1:
      softmax_vectors<1>(scores, keys, columns, bias, running);
      break;
    case 2:
      softmax_vectors<2>(scores, keys, columns, bias, running);
      break;
    case 3:
      if constexpr (kMostVectors<A> >= 3) softmax_vectors<3>(scores, keys, columns, bias, running);
      break;
    default:
      if constexpr (kMostVectors<A> >= 4) softmax_vectors<4>(scores, keys, columns, bias, running);
  }
}

// Dropout as factors: 0 with probability dropped / 2^16, else 1 / (1 - that). The number of a probability is one of the
// eight halves of Philox's words (low half of the first word first) for eight keys:
//   half (key mod 8) of philox(seed; query, ⌊key / 8⌋, head, sequence) ≥ dropped keeps it
template <typename A>
struct Dropout {
  std::int64_t dropped = 0;
  std::uint64_t seed = 0;
  std::uint64_t head = 0, sequence = 0;

  A scale() const { return dropped < 65536 ? A(65536) / A(65536 - dropped) : A(0); }

  // keep [keys, columns] for a tile of keys from `key` (a multiple of 8) on; room for a multiple of 8 rows.
  void factors(std::int64_t key, std::int64_t keys, std::int64_t query, std::int64_t columns, A* keep) const {
    constexpr int count = QueryTiles<A>::unit;  // queries at a time
    static_assert(count <= kRandomBlocks, "");
    const std::uint32_t least = static_cast<std::uint32_t>(dropped);
    const A kept = scale();
    Words place[kRandomVectors];  // even queries in one vector, odd ones in the other
    for (int v = 0; v < kRandomVectors; ++v) {
      for (int i = 0; i < kRandomBlocks / kRandomVectors; ++i) place[v][i] = kRandomVectors * i + v;
    }
    for (std::int64_t k = 0; k < keys; k += 8) {
      for (std::int64_t c = 0; c < columns; c += count) {
        Words words[4][kRandomVectors];
        for (int v = 0; v < kRandomVectors; ++v) {
          words[0][v] = place[v] + static_cast<std::uint64_t>(query + c);
          words[1][v] = Words{} + static_cast<std::uint64_t>((key + k) / 8);
          words[2][v] = Words{} + head;
          words[3][v] = Words{} + sequence;
        }
        philox(seed, words[0], words[1], words[2], words[3]);
        for (int w = 0; w < 4; ++w) {
          const Words both = (words[w][0] & 0xffffffffu) | (words[w][1] << 32);
          std::uint32_t numbers[kRandomBlocks];
          __builtin_memcpy(numbers, &both, sizeof(both));
          for (int half = 0; half < 2; ++half) {
            A* row = keep + (k + 2 * w + half) * columns + c;
            for (int j = 0; j < count; ++j) row[j] = (numbers[j] >> 16 * half & 0xffffu) >= least ? kept : A(0);
          }
        }
      }
    }
  }
};

// x *= factors
template <typename A>
void multiply_by(A* x, const A* factors, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += Vector<A>::lanes) store(x + i, load(x + i) * load(factors + i));
}

// Backward: scores → probabilities p as they met the values (that is, p · keep), and gradients of those → gradients of the
// scores, p · (gradient · keep - delta). All [keys, columns] but lse and delta [columns]; `keep` may be null.
template <typename A>
void differentiate_tile(A* scores, A* gradients, const A* keep, std::int64_t keys, std::int64_t columns,
                        const KeyBias<A>& bias, const A* lse, const A* delta) {
  using V = typename Vector<A>::type;
  for (std::int64_t k = 0; k < keys; ++k) {
    for (std::int64_t c = 0; c < columns; c += Vector<A>::lanes) {
      const std::int64_t at = k * columns + c;
      const V p = exp_nonpositive(bias.apply(load(scores + at), k) - load(lse + c));
      if (keep == nullptr) {
        store(scores + at, p);
        store(gradients + at, p * (load(gradients + at) - load(delta + c)));
      } else {
        const V kept = load(keep + at);
        store(scores + at, p * kept);
        store(gradients + at, p * (load(gradients + at) * kept - load(delta + c)));
      }
    }
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
