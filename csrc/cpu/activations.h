// Activations and their derivatives on vectors: in fp32 through one exponential each, in fp64 through the C library.
// Included by per-instruction-set sources.
#pragma once

#include <math.h>

#include "../bias_activation.h"
#include "vector.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

using Floats = Vector<float>::type;
using Doubles = Vector<double>::type;

template <double (*Function)(double)>
inline Doubles map(Doubles x) {
  Doubles result;
  for (int i = 0; i < Vector<double>::lanes; ++i) result[i] = Function(x[i]);
  return result;
}

template <typename V>
inline V magnitude(V x) {
  return x < 0 ? -x : x;
}

// e^x - 1 for x ≤ 0, to about 2 ulp also near zero: 2^n·(e^r - 1) + (2^n - 1) with x = n·ln 2 + r.
inline Floats expm1_nonpositive(Floats x) {
  using Integers = Vector<float>::integer;
  const Floats rounder = Floats{} + 12582912.0f;  // 1.5·2^23: adding it rounds to the nearest integer
  const Floats n = (x * 1.44269504f + rounder) - rounder;
  Floats r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Floats p = Floats{} + 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = r + p * r * r;
  const Integers exponent = (__builtin_convertvector(n, Integers) + 127) << 23;
  Floats scale;
  __builtin_memcpy(&scale, &exponent, sizeof(scale));
  const Floats result = p * scale + (scale - 1.0f);
  return x < -87.0f ? Floats{} - 1.0f : result;
}
inline Doubles expm1_nonpositive(Doubles x) { return map<::expm1>(x); }

// The standard normal density without its 1 / √(2π), and the distribution function Φ made from it.
template <typename V>
struct Normal {
  V bell;  // e^(-x²/2)
  V phi;   // Φ(x)
};

// Φ(-a) = e^(-a²/2)·R(a) for a ≥ 0, where R falls slowly: a polynomial in t = 1 / (1 + 3a/8), fitted on 0 ≤ a ≤ 13.3 to
// the least relative error (5.4e-8). Beyond, the exponential is zero. With the roundings of fp32 the relative error is
// 4e-7 for a ≤ 2 and grows with a² to 4e-6.
inline Normal<Floats> normal(Floats x) {
  const Floats a = magnitude(x);
  const Floats bell = exp_nonpositive(x * x * -0.5f);
  const Floats t = 1.0f / (a * 0.375f + 1.0f);
  Floats r = Floats{} - 0.0177419666f;
  r = r * t + 0.0629063841f;
  r = r * t - 0.0325289406f;
  r = r * t - 0.128246058f;
  r = r * t + 0.142877033f;
  r = r * t + 0.0313705301f;
  r = r * t + 0.144701918f;
  r = r * t + 0.146801785f;
  r = r * t + 0.149869983f;
  r = r * t - 1.06960019e-05f;
  const Floats tail = bell * r;
  return {bell, x > 0 ? 1.0f - tail : tail};
}
inline Normal<Doubles> normal(Doubles x) {
  return {map<::exp>(x * x * -0.5), map<::erfc>(x * -0.70710678118654752440) * 0.5};
}

// 1 / (1 + e^-x) and its derivative, both exact where they are small.
template <typename V>
struct Logistic {
  V value;
  V slope;
};
template <typename V>
inline Logistic<V> logistic(V x) {
  const V e = exp_nonpositive(-magnitude(x));
  const V share = 1 / (e + 1);
  const V small = e * share;
  return {x < 0 ? small : share, small * share};
}

template <typename V>
inline V tanh(V x) {
  const V m = expm1_nonpositive(magnitude(x) * -2);
  const V t = -m / (m + 2);
  return x < 0 ? -t : t;
}

// The argument of gelu_tanh's logistic, 2·√(2/π)·(x + 0.044715·x³), and its derivative.
template <typename A, typename V>
inline V cubic(V x) {
  return x * (x * x * A(0.07135481627260025) + A(1.5957691216057308));
}
template <typename A, typename V>
inline V cubic_slope(V x) {
  return x * x * A(0.21406444881780076) + A(1.5957691216057308);
}

template <Activation F, typename A>
inline typename Vector<A>::type activate(typename Vector<A>::type x) {
  using V = typename Vector<A>::type;
  if constexpr (F == Activation::kGelu) {
    return x * normal(x).phi;
  } else if constexpr (F == Activation::kGeluTanh) {
    return x * logistic(cubic<A>(x)).value;
  } else if constexpr (F == Activation::kRelu) {
    return x < 0 ? V{} : x;
  } else if constexpr (F == Activation::kTanh) {
    return tanh(x);
  } else if constexpr (F == Activation::kSigmoid) {
    return logistic(x).value;
  } else {
    return x;
  }
}

// grad times the activation's derivative at x.
template <Activation F, typename A>
inline typename Vector<A>::type differentiate(typename Vector<A>::type grad, typename Vector<A>::type x) {
  using V = typename Vector<A>::type;
  if constexpr (F == Activation::kGelu) {
    const Normal<V> n = normal(x);
    return grad * (x * n.bell * A(0.39894228040143267794) + n.phi);
  } else if constexpr (F == Activation::kGeluTanh) {
    const Logistic<V> s = logistic(cubic<A>(x));
    return grad * (x * s.slope * cubic_slope<A>(x) + s.value);
  } else if constexpr (F == Activation::kRelu) {
    return x <= 0 ? V{} : grad;
  } else if constexpr (F == Activation::kTanh) {
    return grad * logistic(x * 2).slope * 4;
  } else if constexpr (F == Activation::kSigmoid) {
    return grad * logistic(x).slope;
  } else {
    return grad;
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
