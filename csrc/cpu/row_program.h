// Elementwise programs on single rows, which stay in the first cache between their steps. Included by
// per-instruction-set sources.
#pragma once

#include <cstdint>

#include "../expression_block.h"
#include "activations.h"
#include "integers.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// out = function(a, b), element by element; out may be a or b.
template <typename Function>
inline void map_row(const float* a, const float* b, std::int64_t n, float* out, Function function) {
  constexpr std::int64_t lanes = Vector<float>::lanes;
  if (n < lanes) {
    float left[lanes] = {}, right[lanes] = {}, result[lanes];
    for (std::int64_t c = 0; c < n; ++c) {
      left[c] = a[c];
      right[c] = b[c];
    }
    store(result, function(load(left), load(right)));
    for (std::int64_t c = 0; c < n; ++c) out[c] = result[c];
    return;
  }
  // the last vector overlaps the one before it, so it is computed before anything is written
  const Floats last = function(load(a + n - lanes), load(b + n - lanes));
  for (std::int64_t c = 0; c + lanes <= n; c += lanes) store(out + c, function(load(a + c), load(b + c)));
  store(out + n - lanes, last);
}

template <Activation F>
void activate_row(const float* x, const float* bias, std::int64_t n, float* out) {
  if (bias == nullptr) {
    map_row(x, x, n, out, [](Floats value, Floats) { return activate<F, float>(value); });
  } else {
    map_row(x, bias, n, out, [](Floats value, Floats added) { return activate<F, float>(value + added); });
  }
}

// out = activation(x + bias); bias may be null, out may be x.
inline void activate_row(Activation activation, const float* x, const float* bias, std::int64_t n, float* out) {
  switch (activation) {
    case Activation::kNone:
      return activate_row<Activation::kNone>(x, bias, n, out);
    case Activation::kGelu:
      return activate_row<Activation::kGelu>(x, bias, n, out);
    case Activation::kGeluTanh:
      return activate_row<Activation::kGeluTanh>(x, bias, n, out);
    case Activation::kRelu:
      return activate_row<Activation::kRelu>(x, bias, n, out);
    case Activation::kTanh:
      return activate_row<Activation::kTanh>(x, bias, n, out);
    case Activation::kSigmoid:
      return activate_row<Activation::kSigmoid>(x, bias, n, out);
    case Activation::kLeakyRelu:
      return activate_row<Activation::kLeakyRelu>(x, bias, n, out);
    case Activation::kElu:
      return activate_row<Activation::kElu>(x, bias, n, out);
    case Activation::kSwish:
      return activate_row<Activation::kSwish>(x, bias, n, out);
  }
}

inline void combine_row(int step, const float* a, const float* b, std::int64_t n, float* out) {
  if (step == kAdd) {
    map_row(a, b, n, out, [](Floats x, Floats y) { return x + y; });
  } else if (step == kMultiply) {
    map_row(a, b, n, out, [](Floats x, Floats y) { return x * y; });
  } else {
    map_row(a, b, n, out, [](Floats x, Floats y) { return x != x || x > y ? x : y; });  // NaN stays
  }
}

// A row of a program's, and how wide it is.
struct Row {
  const float* data;
  std::int64_t width;
};

// Where both rows have ended that a combination takes, the wider one goes on, up to the width that is returned.
inline std::int64_t end_combination(int step, Widths widths, const Row& a, const Row& b, float* out) {
  const Row& wider = a.width > b.width ? a : b;
  const std::int64_t n = smaller(a.width, b.width);
  if (widths == Widths::kCrop) return n;
  const bool lowest = step == kMaximum && widths == Widths::kPadPublished;
  for (std::int64_t c = n; c < wider.width; ++c) {
    out[c] = lowest && wider.data[c] < -1e-10f ? -1e-10f : wider.data[c];
  }
  return wider.width;
}

inline bool is_activation(int step) { return step < kInput; }

// Runs a program that is not empty.
//
// x: the sub-layer's input. layer: what the layer below yields, to which its bias, if any, is yet to be added.
// memory: kMostValues rows of `stride` elements. out: may be the row of `layer`.
inline void run_program(const Program& program, Widths widths, const Row& x, const Row& layer, const float* bias,
                        float* memory, std::int64_t stride, float* out) {
  Row values[kMostValues];
  int count = 0;
  for (int i = 0; i < program.count; ++i) {
    const int step = program.steps[i];
    const bool fused = step == kLayer && i + 1 < program.count && is_activation(program.steps[i + 1]);
    if (fused) ++i;  // an activation adds the bias itself
    const bool last = i + 1 == program.count;
    if (step == kInput && !last) {
      values[count++] = x;
    } else if (step == kInput || step == kLayer || is_activation(step)) {
      const Row from = step == kInput ? x : step == kLayer ? layer : values[--count];
      const int activation = fused ? program.steps[i] : is_activation(step) ? step : 0;
      float* const to = last ? out : memory + count * stride;
      activate_row(static_cast<Activation>(activation), from.data, step == kLayer ? bias : nullptr, from.width, to);
      values[count++] = {to, from.width};
    } else {
      const Row b = values[--count], a = values[--count];
      float* const to = last ? out : memory + count * stride;
      combine_row(step, a.data, b.data, smaller(a.width, b.width), to);
      values[count++] = {to, end_combination(step, widths, a, b, to)};
    }
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
