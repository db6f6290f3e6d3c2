// attention on the CPU, tile by tile: a tile of queries meets a tile of keys at a time, so nothing of size T² is stored.
//
// Forward: a task is a tile of queries of one head and sequence. Its scores are computed transposed (keys down, queries
// across), a running softmax follows the tiles of keys, the weighted values add up beside it.
//
// Backward: a task is a head of a sequence; it walks the tiles of keys, and for each the tiles of queries, computes the
// probabilities anew from the log-sum-exp that the forward pass left, and adds to the gradients of key and value (of this
// tile) and of query (of the whole sequence). Where heads and sequences are few, long sequences are cut into parts of
// their keys that sum gradients of query of their own, added up in order at the end. How, depends on sizes alone: results
// do not depend on the number of threads.
#include "attention.h"

#include <math.h>

#include "attention_rows.h"
#include "attention_scores.h"
#include "integers.h"
#include "multiply.h"
#include "scratch.h"
#include "vector.h"
#include "work.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

constexpr std::int64_t kForwardKeys = 128;  // keys a tile; multiples of 8
constexpr std::int64_t kBackwardKeys = 64;
constexpr std::int64_t kPartKeys = 512;  // least number of keys of a part of a sequence in the backward pass
constexpr std::int64_t kParts = 32;      // number of tasks up to which sequences are cut into parts

inline float logarithm(float x) { return ::logf(x); }
inline double logarithm(double x) { return ::log(x); }

inline std::int64_t whole_rows(std::int64_t rows) { return ceil_div(rows, kRows) * kRows; }

// Hands out pieces of one allocation; with no memory behind it, it counts.
template <typename A>
struct Pieces {
  A* memory = nullptr;
  std::int64_t used = 0;
  A* take(std::int64_t count) {
    A* piece = memory != nullptr ? memory + used : nullptr;
    used += ceil_div(count, Vector<A>::lanes) * Vector<A>::lanes;
    return piece;
  }
};

template <typename A>
Dropout<A> dropout_of(const AttentionShape& shape, std::int64_t sequence, std::int64_t head) {
  return {shape.dropped, shape.dropped > 0 ? static_cast<std::uint64_t>(*shape.seed) : 0,
          static_cast<std::uint64_t>(head), static_cast<std::uint64_t>(sequence)};
}

template <typename A>
KeyBias<A> read_key_bias(const Storage<A>& storage, const Matrix& x, const Span& span, A* to) {
  if (x.data == nullptr) return {};
  storage.widen(static_cast<const char*>(x.data) + (span.batch * x.stride + span.first) * storage.bytes, to,
                span.count);
  return key_bias(to, span.count);
}

template <typename A>
class ForwardTask {
 public:
  ForwardTask(const AttentionForward& call, const Storage<A>& storage, std::int64_t longest, Pieces<A> pieces)
      : call_(call), storage_(storage), padded_(padded_width<A>(call.shape.width)) {
    constexpr std::int64_t queries = QueryTiles<A>::most;
    keys_ = pieces.take(whole_rows(longest) * padded_);
    values_ = pieces.take(longest * padded_);
    bias_values_ = pieces.take(longest);
    queries_ = pieces.take(queries * padded_);
    queries_across_ = pieces.take(padded_ * queries);
    sums_ = pieces.take(queries * padded_);
    scores_ = pieces.take(kForwardKeys * queries);
    keep_ = call.shape.dropped > 0 ? pieces.take(kForwardKeys * queries) : nullptr;
    running_ = {pieces.take(queries), pieces.take(queries), pieces.take(queries)};
    size = pieces.used;
  }

  std::int64_t size;  // of the memory it needs

  void run(std::int64_t sequence, std::int64_t task) {
    const AttentionShape& shape = call_.shape;
    const Span span = span_of(shape.sequences, sequence);
    const QueryTiles<A> tiles(span.count);
    const std::int64_t head = task / tiles.count;
    if (sequence != sequence_ || head != head_) {  // else as the last task left them
      sequence_ = sequence;
      head_ = head;
      HeadRows<A>(storage_, call_.key, span, head, shape.width)
          .read(0, span.count, whole_rows(span.count), A(1), keys_);
      HeadRows<A>(storage_, call_.value, span, head, shape.width).read(0, span.count, span.count, A(1), values_);
      bias_ = read_key_bias(storage_, call_.key_bias, span, bias_values_);
    }
    attend(span, tiles, task % tiles.count);
  }

 private:
  void attend(const Span& span, const QueryTiles<A>& tiles, std::int64_t tile) {
    const AttentionShape& shape = call_.shape;
    const std::int64_t first = tile * tiles.width, columns = tiles.columns(tile);
    const std::int64_t queries = smaller(columns, span.count - first);
    HeadRows<A>(storage_, call_.query, span, head_, shape.width)
        .read(first, queries, columns, static_cast<A>(shape.scale), queries_);
    transpose(queries_, columns, padded_, padded_, queries_across_, columns);
    for (std::int64_t c = 0; c < columns; ++c) {
      running_.most[c] = -__builtin_inf();
      running_.sum[c] = 0;
    }

    for (std::int64_t key = 0; key < span.count; key += kForwardKeys) {
      const std::int64_t keys = smaller(kForwardKeys, span.count - key);
      multiply<Left::kRowMajor>(whole_rows(keys), columns, shape.width, keys_ + key * padded_, padded_, queries_across_,
                                columns, false, scores_, columns);
      KeyBias<A> bias = bias_;
      if (bias.values != nullptr) bias.values += key;
      softmax_tile(scores_, keys, columns, bias, running_);
      if (keep_ != nullptr) {
        dropout_of<A>(shape, sequence_, head_).factors(key, keys, first, columns, keep_);
        multiply_by(scores_, keep_, keys * columns);
      }
      for (std::int64_t c = 0; c < queries && key > 0; ++c) {
        A* sums = sums_ + c * padded_;
        for (std::int64_t d = 0; d < padded_; d += Vector<A>::lanes) {
          store(sums + d, load(sums + d) * running_.shrink[c]);
        }
      }
      multiply<Left::kColumnMajor>(whole_rows(queries), padded_, keys, scores_, columns, values_ + key * padded_,
                                   padded_, key > 0, sums_, padded_);
    }

    const HeadRows<A> out(storage_, call_.out, span, head_, shape.width);
    A* lse = static_cast<A*>(call_.lse) + (span.row + first) * shape.heads + head_;
    for (std::int64_t c = 0; c < queries; ++c) {
      const A sum = running_.sum[c];
      const bool nothing = sum == 0;  // may be attended
      out.write(first + c, sums_ + c * padded_, nothing ? A(0) : 1 / sum);
      lse[c * shape.heads] = nothing ? A(0) : running_.most[c] + logarithm(sum);
    }
  }

  const AttentionForward& call_;
  const Storage<A>& storage_;
  std::int64_t padded_;  // width
  std::int64_t sequence_ = -1, head_ = -1;
  KeyBias<A> bias_;
  A *keys_, *values_;          // [T, D]
  A* bias_values_;             // [T]
  A *queries_, *sums_;         // [queries, D]
  A* queries_across_;          // [D, queries]
  A *scores_, *keep_;          // [keys, queries]
  Running<A> running_;         // [queries]
};

template <typename A>
bool forward(const AttentionForward& call, const Storage<A>& storage, int threads) {
  const AttentionShape& shape = call.shape;
  const Sequences& sequences = shape.sequences;
  const std::int64_t longest = longest_span(sequences);
  const auto work_of = [&](std::int64_t sequence) -> Work {
    const std::int64_t count = span_of(sequences, sequence).count;
    const QueryTiles<A> tiles(count);
    return {shape.heads * tiles.count, tiles.width * (count + 16)};
  };
  const Work total = total_work(sequences.batches, work_of);
  const int most = static_cast<int>(larger(1, smaller(total.tasks, threads)));
  bool exhausted = false;
#pragma omp parallel for schedule(static, 1) num_threads(most) reduction(|| : exhausted)
  for (int share = 0; share < most; ++share) {
    for (std::int64_t b = sequences.batches * share / most; b < sequences.batches * (share + 1) / most; ++b) {
      clear_padding(storage, call.out, sequences, b, shape.heads, shape.width);
      if (sequences.lengths == nullptr) continue;
      A* lse = static_cast<A*>(call.lse) + b * sequences.tokens * shape.heads;
      for (std::int64_t i = sequences.lengths[b] * shape.heads; i < sequences.tokens * shape.heads; ++i) lse[i] = A(0);
    }
    A* memory = allocate<A>(ForwardTask<A>(call, storage, longest, {}).size);
    if (memory == nullptr) {
      exhausted = true;
      continue;
    }
    ForwardTask<A> tasks(call, storage, longest, {memory});
    run_share(sequences.batches, total, share, most, work_of,
              [&](std::int64_t sequence, std::int64_t task) { tasks.run(sequence, task); });
    free(memory);
  }
  return !exhausted;
}

// Into how many parts the keys of a sequence are cut.
inline std::int64_t parts_of(const AttentionShape& shape, std::int64_t count) {
  const std::int64_t heads = shape.sequences.batches * shape.heads;
  return larger(1, smaller(kParts / heads, count / kPartKeys));
}

template <typename A>
class BackwardTask {
 public:
  BackwardTask(const AttentionBackward& call, const Storage<A>& storage, std::int64_t longest, Pieces<A> pieces)
      : call_(call), storage_(storage), padded_(padded_width<A>(call.shape.width)) {
    const std::int64_t queries = QueryTiles<A>(longest).padded, tile = kBackwardKeys * QueryTiles<A>::most;
    queries_ = pieces.take(queries * padded_);
    grads_ = pieces.take(queries * padded_);
    queries_across_ = pieces.take(queries * padded_);
    grads_across_ = pieces.take(queries * padded_);
    d_queries_ = pieces.take(queries * padded_);
    lse_ = pieces.take(queries);
    delta_ = pieces.take(queries);
    bias_values_ = pieces.take(longest);
    keys_ = pieces.take(kBackwardKeys * padded_);
    values_ = pieces.take(kBackwardKeys * padded_);
    d_keys_ = pieces.take(kBackwardKeys * padded_);
    d_values_ = pieces.take(kBackwardKeys * padded_);
    scores_ = pieces.take(tile);
    d_scores_ = pieces.take(tile);
    keep_ = call.shape.dropped > 0 ? pieces.take(tile) : nullptr;
    size = pieces.used;
  }

  std::int64_t size;  // of the memory it needs

  // Adds to `partial` [queries, D] the gradient of query by the keys of one part; null where there is only one.
  void run(std::int64_t sequence, std::int64_t head, std::int64_t part, std::int64_t parts, A* partial) {
    const AttentionShape& shape = call_.shape;
    const Span span = span_of(shape.sequences, sequence);
    const QueryTiles<A> tiles(span.count);
    read_queries(span, tiles, head);
    bias_ = read_key_bias(storage_, call_.key_bias, span, bias_values_);
    dropout_ = dropout_of<A>(shape, sequence, head);

    A* d_queries = partial != nullptr ? partial : d_queries_;
    for (std::int64_t i = 0; i < tiles.padded * padded_; ++i) d_queries[i] = A(0);
    const std::int64_t key_tiles = ceil_div(span.count, kBackwardKeys);
    for (std::int64_t k = key_tiles * part / parts; k < key_tiles * (part + 1) / parts; ++k) {
      by_keys(span, tiles, head, k * kBackwardKeys, d_queries);
    }
    if (partial == nullptr) {
      const HeadRows<A> out(storage_, call_.d_query, span, head, shape.width);
      for (std::int64_t t = 0; t < span.count; ++t) {
        out.write(t, d_queries + t * padded_, static_cast<A>(shape.scale));
      }
    }
  }

 private:
  void read_queries(const Span& span, const QueryTiles<A>& tiles, std::int64_t head) {
    const AttentionShape& shape = call_.shape;
    const HeadRows<A> query(storage_, call_.query, span, head, shape.width);
    const HeadRows<A> grad(storage_, call_.grad, span, head, shape.width);
    const HeadRows<A> out(storage_, call_.out, span, head, shape.width);
    query.read(0, span.count, tiles.padded, static_cast<A>(shape.scale), queries_);
    grad.read(0, span.count, tiles.padded, A(1), grads_);
    for (std::int64_t tile = 0; tile < tiles.count; ++tile) {
      const std::int64_t at = tile * tiles.width * padded_, columns = tiles.columns(tile);
      transpose(queries_ + at, columns, padded_, padded_, queries_across_ + at, columns);
      transpose(grads_ + at, columns, padded_, padded_, grads_across_ + at, columns);
    }

    const A* lse = static_cast<const A*>(call_.lse) + span.row * shape.heads + head;
    A* row = d_keys_;  // not in use yet
    for (std::int64_t t = 0; t < tiles.padded; ++t) {
      lse_[t] = t < span.count ? lse[t * shape.heads] : A(0);
      delta_[t] = A(0);
      if (t >= span.count) continue;
      out.read(t, 1, 1, A(1), row);
      typename Vector<A>::type sum{};
      for (std::int64_t d = 0; d < padded_; d += Vector<A>::lanes) {
        sum += load(row + d) * load(grads_ + t * padded_ + d);
      }
      delta_[t] = add_lanes(sum);
    }
  }

  void by_keys(const Span& span, const QueryTiles<A>& tiles, std::int64_t head, std::int64_t key, A* d_queries) {
    const AttentionShape& shape = call_.shape;
    const std::int64_t keys = smaller(kBackwardKeys, span.count - key), rows = whole_rows(keys);
    HeadRows<A>(storage_, call_.key, span, head, shape.width).read(key, keys, rows, A(1), keys_);
    HeadRows<A>(storage_, call_.value, span, head, shape.width).read(key, keys, rows, A(1), values_);
    KeyBias<A> bias = bias_;
    if (bias.values != nullptr) bias.values += key;

    for (std::int64_t tile = 0; tile < tiles.count; ++tile) {
      const std::int64_t first = tile * tiles.width, at = first * padded_, columns = tiles.columns(tile);
      const std::int64_t queries = smaller(columns, span.count - first);
      multiply<Left::kRowMajor>(rows, columns, shape.width, keys_, padded_, queries_across_ + at, columns, false,
                                scores_, columns);
      multiply<Left::kRowMajor>(rows, columns, shape.width, values_, padded_, grads_across_ + at, columns, false,
                                d_scores_, columns);
      if (keep_ != nullptr) dropout_.factors(key, keys, first, columns, keep_);
      differentiate_tile(scores_, d_scores_, keep_, keys, columns, bias, lse_ + first, delta_ + first);
      multiply<Left::kRowMajor>(rows, padded_, queries, scores_, columns, grads_ + at, padded_, tile > 0, d_values_,
                                padded_);
      multiply<Left::kRowMajor>(rows, padded_, queries, d_scores_, columns, queries_ + at, padded_, tile > 0, d_keys_,
                                padded_);
      multiply<Left::kColumnMajor>(columns, padded_, keys, d_scores_, columns, keys_, padded_, true, d_queries + at,
                                   padded_);
    }

    const HeadRows<A> d_key(storage_, call_.d_key, span, head, shape.width);
    const HeadRows<A> d_value(storage_, call_.d_value, span, head, shape.width);
    for (std::int64_t k = 0; k < keys; ++k) {
      d_key.write(key + k, d_keys_ + k * padded_, A(1));
      d_value.write(key + k, d_values_ + k * padded_, A(1));
    }
  }

  const AttentionBackward& call_;
  const Storage<A>& storage_;
  std::int64_t padded_;  // width
  KeyBias<A> bias_;
  Dropout<A> dropout_;
  A *queries_, *grads_, *d_queries_;      // [T, D]
  A *queries_across_, *grads_across_;     // [D, queries] for each tile
  A *lse_, *delta_, *bias_values_;        // [T]
  A *keys_, *values_, *d_keys_, *d_values_;  // [keys, D]
  A *scores_, *d_scores_, *keep_;         // [keys, queries]
};

template <typename A>
bool backward(const AttentionBackward& call, const Storage<A>& storage, int threads) {
  const AttentionShape& shape = call.shape;
  const Sequences& sequences = shape.sequences;
  const std::int64_t longest = longest_span(sequences), padded = padded_width<A>(shape.width);
  const auto work_of = [&](std::int64_t sequence) -> Work {
    const std::int64_t count = span_of(sequences, sequence).count, parts = parts_of(shape, count);
    return {count > 0 ? shape.heads * parts : 0, ceil_div(count, parts) * (count + 16)};
  };
  const Work total = total_work(sequences.batches, work_of);
  const int most = static_cast<int>(larger(1, smaller(total.tasks, threads)));

  // gradients of query by parts: [parts, T, D] for each head of the sequences that have more than one
  const auto partial_size = [&](std::int64_t sequence) {
    const std::int64_t count = span_of(sequences, sequence).count;
    return QueryTiles<A>(count).padded * padded;
  };
  const auto partial_offset = [&](std::int64_t sequence) {
    std::int64_t offset = 0;
    for (std::int64_t b = 0; b < sequence; ++b) {
      const std::int64_t parts = parts_of(shape, span_of(sequences, b).count);
      if (parts > 1) offset += shape.heads * parts * partial_size(b);
    }
    return offset;
  };
  const bool cut = parts_of(shape, longest) > 1;
  A* partial = cut ? allocate<A>(partial_offset(sequences.batches)) : nullptr;
  bool exhausted = cut && partial == nullptr;
  if (exhausted) return false;

#pragma omp parallel for schedule(static, 1) num_threads(most) reduction(|| : exhausted)
  for (int share = 0; share < most; ++share) {
    for (std::int64_t b = sequences.batches * share / most; b < sequences.batches * (share + 1) / most; ++b) {
      clear_padding(storage, call.d_query, sequences, b, shape.heads, shape.width);
      clear_padding(storage, call.d_key, sequences, b, shape.heads, shape.width);
      clear_padding(storage, call.d_value, sequences, b, shape.heads, shape.width);
    }
    A* memory = allocate<A>(BackwardTask<A>(call, storage, longest, {}).size);
    if (memory == nullptr) {
      exhausted = true;
      continue;
    }
    BackwardTask<A> tasks(call, storage, longest, {memory});
    run_share(sequences.batches, total, share, most, work_of, [&](std::int64_t sequence, std::int64_t task) {
      const std::int64_t parts = parts_of(shape, span_of(sequences, sequence).count);
      A* own = parts > 1 ? partial + partial_offset(sequence) + task * partial_size(sequence) : nullptr;
      tasks.run(sequence, task / parts, task % parts, parts, own);
    });
    free(memory);
  }
  if (cut && !exhausted) {
#pragma omp parallel for schedule(static, 1) num_threads(most)
    for (int share = 0; share < most; ++share) {
      for (std::int64_t b = 0; b < sequences.batches; ++b) {
        const Span span = span_of(sequences, b);
        const std::int64_t parts = parts_of(shape, span.count);
        if (parts == 1) continue;
        for (std::int64_t head = 0; head < shape.heads; ++head) {
          const HeadRows<A> out(storage, call.d_query, span, head, shape.width);
          A* sums = partial + partial_offset(b) + head * parts * partial_size(b);
          for (std::int64_t t = span.count * share / most; t < span.count * (share + 1) / most; ++t) {
            A* row = sums + t * padded;
            for (std::int64_t part = 1; part < parts; ++part) {
              for (std::int64_t d = 0; d < padded; ++d) row[d] += row[part * partial_size(b) + d];
            }
            out.write(t, row, static_cast<A>(shape.scale));
          }
        }
      }
    }
  }
  free(partial);
  return !exhausted;
}

}  // namespace

bool attention_forward(const AttentionForward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return forward<float>(call, StorageOf<float>::value, threads);
    case DType::kFloat64:
      return forward<double>(call, StorageOf<double>::value, threads);
    case DType::kBFloat16:
      return forward<float>(call, StorageOf<BFloat16>::value, threads);
    case DType::kFloat16:
      return forward<float>(call, StorageOf<Float16>::value, threads);
  }
  return true;
}

bool attention_backward(const AttentionBackward& call, int threads) {
  switch (call.shape.dtype) {
    case DType::kFloat32:
      return backward<float>(call, StorageOf<float>::value, threads);
    case DType::kFloat64:
      return backward<double>(call, StorageOf<double>::value, threads);
    case DType::kBFloat16:
      return backward<float>(call, StorageOf<BFloat16>::value, threads);
    case DType::kFloat16:
      return backward<float>(call, StorageOf<Float16>::value, threads);
  }
  return true;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
