// An activation together with its derivative, row by row: both begin with the same exponential. Included by
// per-instruction-set sources.
#pragma once

#include <cstdint>

#include "activations.h"
#include "integers.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// For x = product + bias: out = activation(x); d becomes d · activation'(x), which is also added to `sums`. Bias and
// sums are as long as whole vectors.
using ActivationGradientRow = void (*)(const float* product, const float* bias, std::int64_t columns, float* d,
                                       float* out, float* sums);

template <Activation F>
inline void activation_gradient_vector(const float* product, const float* bias, float* d, float* out, float* sums) {
  const Floats x = load(product) + load(bias);
  const Floats slope = differentiate<F, float>(load(d), x);
  store(out, activate<F, float>(x));
  store(d, slope);
  store(sums, load(sums) + slope);
}

template <Activation F>
void activation_gradient_row(const float* product, const float* bias, std::int64_t columns, float* d, float* out,
                             float* sums) {
  constexpr std::int64_t lanes = Vector<float>::lanes;
  std::int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    activation_gradient_vector<F>(product + c, bias + c, d + c, out + c, sums + c);
  }
  if (c == columns) return;
  float last_product[lanes] = {}, last_d[lanes] = {}, last_out[lanes];
  for (std::int64_t i = 0; i < columns - c; ++i) {
    last_product[i] = product[c + i];
    last_d[i] = d[c + i];
  }
  activation_gradient_vector<F>(last_product, bias + c, last_d, last_out, sums + c);
  for (std::int64_t i = 0; i < columns - c; ++i) {
    d[c + i] = last_d[i];
    out[c + i] = last_out[i];
  }
}

inline ActivationGradientRow activation_gradient_of(Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return activation_gradient_row<Activation::kNone>;
    case Activation::kGelu:
      return activation_gradient_row<Activation::kGelu>;
    case Activation::kGeluTanh:
      return activation_gradient_row<Activation::kGeluTanh>;
    case Activation::kRelu:
      return activation_gradient_row<Activation::kRelu>;
    case Activation::kTanh:
      return activation_gradient_row<Activation::kTanh>;
    case Activation::kSigmoid:
      return activation_gradient_row<Activation::kSigmoid>;
    case Activation::kLeakyRelu:
      return activation_gradient_row<Activation::kLeakyRelu>;
    case Activation::kElu:
      return activation_gradient_row<Activation::kElu>;
    case Activation::kSwish:
      return activation_gradient_row<Activation::kSwish>;
  }
  return nullptr;
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
