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

inline Floats magnitude(Floats x) {
  Vector<float>::integer bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  bits &= 0x7fffffff;  // without the sign
  __builtin_memcpy(&x, &bits, sizeof(bits));
  return x;
}
inline Doubles magnitude(Doubles x) { return x < 0 ? -x : x; }

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

// What gelu is made of, for a = |x| (at most 12.9, beyond which nothing changes any more): the standard normal's bell
// e^(-a²/2), and R with Φ(-a) = bell·R.
template <typename V>
struct NormalTail {
  V a;
  V bell;
  V ratio;
};

// The bell is 2^n·2^f with n + f = -a²/2·log2 e and a polynomial for 2^f, |f| ≤ 1/2 (relative error 1.9e-9). R falls
// slowly: a polynomial in t = 1 / (1 + 9/32·a), fitted to the least relative error (1e-7; 4.5e-7 as rounded here).
inline NormalTail<Floats> normal_tail(Floats x) {
  using Integers = Vector<float>::integer;
  const Floats far = magnitude(x), a = far > 12.9f ? Floats{} + 12.9f : far;  // NaN stays
  const Floats exponent = a * a * -0.72134752f;
  const Floats rounder = Floats{} + 12582912.0f;  // 1.5·2^23: adding it rounds to the nearest integer, in the lowest bits
  const Floats shifted = exponent + rounder;
  const Floats f = exponent - (shifted - rounder);
  Floats p = Floats{} + 1.53458118e-4f;
  p = p * f + 1.33999312e-3f;
  p = p * f + 9.61848896e-3f;
  p = p * f + 5.55032878e-2f;
  p = p * f + 2.40226469e-1f;
  p = p * f + 6.93147206e-1f;
  p = p * f + 1.0f;
  Integers bits, n;
  __builtin_memcpy(&bits, &p, sizeof(bits));
  __builtin_memcpy(&n, &shifted, sizeof(n));
  bits += n << 23;
  Floats bell;
  __builtin_memcpy(&bell, &bits, sizeof(bell));

  const Floats t = 1.0f / (a * 0.28125f + 1.0f);
  Floats r = Floats{} + 3.5886243e-2f;
  r = r * t - 1.96819474e-1f;
  r = r * t + 3.53452205e-1f;
  r = r * t - 2.06753373e-1f;
  r = r * t + 2.23064761e-1f;
  r = r * t + 5.88702297e-2f;
  r = r * t + 1.21032854e-1f;
  r = r * t + 1.1121966e-1f;
  r = r * t + 4.68467479e-5f;
  return {a, bell, r};
}

// x·Φ(x), the same on both sides but for x itself: max(x, 0) - a·Φ(-a).
inline Floats gelu(Floats x) {
  const NormalTail<Floats> tail = normal_tail(x);
  return (x < 0 ? Floats{} : x) - tail.a * (tail.bell * tail.ratio);
}
inline Doubles gelu(Doubles x) { return x * map<::erfc>(x * -0.70710678118654752440) * 0.5; }

// Its derivative Φ(x) + x·φ(x), φ = bell / √(2π): on the left Φ(-a) - a·φ(a), on the right one minus that.
inline Floats gelu_slope(Floats x) {
  const NormalTail<Floats> tail = normal_tail(x);
  const Floats left = tail.bell * (tail.ratio - tail.a * 0.39894228f);
  return x < 0 ? left : 1.0f - left;
}
inline Doubles gelu_slope(Doubles x) {
  const Doubles density = map<::exp>(x * x * -0.5) * 0.39894228040143267794;
  return map<::erfc>(x * -0.70710678118654752440) * 0.5 + x * density;
}

// 1 / (1 + e^-x), its derivative, and one minus it, all exact where they are small.
template <typename V>
struct Logistic {
  V value;
  V slope;
  V rest;
};
template <typename V>
inline Logistic<V> logistic(V x) {
  const V e = exp_nonpositive(-magnitude(x));
  const V share = 1 / (e + 1);
  const V small = e * share;
  return {x < 0 ? small : share, small * share, x < 0 ? share : small};
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
    return gelu(x);
  } else if constexpr (F == Activation::kGeluTanh) {
    return x * logistic(cubic<A>(x)).value;
  } else if constexpr (F == Activation::kRelu) {
    return x < 0 ? V{} : x;
  } else if constexpr (F == Activation::kTanh) {
    return tanh(x);
  } else if constexpr (F == Activation::kSigmoid) {
    return logistic(x).value;
  } else if constexpr (F == Activation::kLeakyRelu) {
    return x < 0 ? x * A(0.01) : x;
  } else if constexpr (F == Activation::kElu) {
    return x < 0 ? expm1_nonpositive(-magnitude(x)) : x;
  } else if constexpr (F == Activation::kSwish) {
    return x * logistic(x).value;
  } else {
    return x;
  }
}

// grad times the activation's derivative at x.
template <Activation F, typename A>
inline typename Vector<A>::type differentiate(typename Vector<A>::type grad, typename Vector<A>::type x) {
  using V = typename Vector<A>::type;
  if constexpr (F == Activation::kGelu) {
    return grad * gelu_slope(x);
  } else if constexpr (F == Activation::kGeluTanh) {
    const Logistic<V> s = logistic(cubic<A>(x));
    return grad * (x * s.slope * cubic_slope<A>(x) + s.value);
  } else if constexpr (F == Activation::kRelu) {
    return x <= 0 ? V{} : grad;
  } else if constexpr (F == Activation::kTanh) {
    return grad * logistic(x * 2).slope * 4;
  } else if constexpr (F == Activation::kSigmoid) {
    return grad * logistic(x).slope;
  } else if constexpr (F == Activation::kLeakyRelu) {
    return x <= 0 ? grad * A(0.01) : grad;
  } else if constexpr (F == Activation::kElu) {
    return x < 0 ? grad * exp_nonpositive(-magnitude(x)) : grad;
  } else if constexpr (F == Activation::kSwish) {
    const Logistic<V> s = logistic(x);
    return grad * (x * s.slope + s.value);
  } else {
    return grad;
  }
}

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
