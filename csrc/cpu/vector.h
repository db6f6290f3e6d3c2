// Vectors of the instruction set being compiled, through the compilers' vector extension (GCC, Clang): plain operators,
// any architecture. Included by per-instruction-set sources only.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct Vector;
template <>
struct Vector<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef std::int32_t integer __attribute__((vector_size(kVectorBytes)));
  static constexpr int lanes = kVectorBytes / 4;
};
template <>
struct Vector<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef std::int64_t integer __attribute__((vector_size(kVectorBytes)));
  static constexpr int lanes = kVectorBytes / 8;
};

template <typename T>
inline typename Vector<T>::type load(const T* from) {
  typename Vector<T>::type v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

template <typename T>
inline void store(T* to, typename Vector<T>::type v) {
  __builtin_memcpy(to, &v, sizeof(v));
}

// The sum of all lanes, by halves: adding lane after lane would be one long chain.
inline float add_lanes(Vector<float>::type v) {
  typedef float Quarter __attribute__((vector_size(16)));
  Quarter parts[kVectorBytes / 16];
  __builtin_memcpy(parts, &v, sizeof(v));
#pragma GCC unroll 2
  for (int stride = kVectorBytes / 32; stride > 0; stride /= 2) {
    for (int i = 0; i < stride; ++i) parts[i] += parts[i + stride];
  }
  return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}

inline double add_lanes(Vector<double>::type v) {
  double sum = 0;
  for (int i = 0; i < Vector<double>::lanes; ++i) sum += v[i];
  return sum;
}

// e^x for x ≤ 0 to about 1 ulp: x = n·ln 2 + r, |r| ≤ ln 2 / 2, a polynomial for e^r (Taylor, degree 7), n into the
// exponent. Results that would be subnormal are 0, so that e^-inf = 0; NaN stays NaN.
inline Vector<float>::type exp_nonpositive(Vector<float>::type x) {
  using Floats = Vector<float>::type;
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
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Integers exponent = (__builtin_convertvector(n, Integers) + 127) << 23;
  Floats scale;
  __builtin_memcpy(&scale, &exponent, sizeof(scale));
  const Floats result = p * scale;
  return x < -87.0f ? Floats{} : result;
}

inline Vector<double>::type exp_nonpositive(Vector<double>::type x) {
  Vector<double>::type result;
  for (int i = 0; i < Vector<double>::lanes; ++i) result[i] = ::exp(x[i]);
  return result;
}

// -- storage types: rows of them are widened to, and rounded from, the type that sums are kept in ---------------------

struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

template <typename T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};

inline float bits_to_float(std::uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

inline std::uint32_t float_to_bits(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(BFloat16 x) { return bits_to_float(static_cast<std::uint32_t>(x.bits) << 16); }
inline float widen(Float16 x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude << 13));  // inf, NaN
  // scaled by 2^112, which also normalises subnormals
  const float scaled = bits_to_float(magnitude << 13) * bits_to_float(0x77800000u);
  return bits_to_float(sign | float_to_bits(scaled));
#endif
}

inline void narrow(float x, float* to) { *to = x; }
inline void narrow(double x, double* to) { *to = x; }
inline void narrow(float x, BFloat16* to) {
  const std::uint32_t bits = float_to_bits(x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
  const std::uint32_t quiet_nan = (bits >> 16) | 0x40u;
  to->bits = static_cast<std::uint16_t>(x != x ? quiet_nan : rounded);
}
inline void narrow(float x, Float16* to) {
#if defined(__F16C__)
  to->bits = static_cast<std::uint16_t>(_cvtss_sh(x, 0));
#else
  const std::uint32_t bits = float_to_bits(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;  // NaN
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;  // rounds to infinity
  } else if (magnitude >= 0x38800000u) {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {
    // subnormal: adding 0.5 aligns the mantissa so that the hardware rounds it
    half = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  }
  to->bits = static_cast<std::uint16_t>(sign | half);
#endif
}

template <typename T>
inline void widen_row(const T* from, typename Accumulate<T>::type* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = widen(from[i]);
}

template <typename T>
inline void narrow_row(const typename Accumulate<T>::type* from, T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) narrow(from[i], to + i);
}

#if defined(__F16C__)
template <>
inline void widen_row<Float16>(const Float16* from, float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
  for (; i < n; ++i) to[i] = widen(from[i]);
}

template <>
inline void narrow_row<Float16>(const float* from, Float16* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), 0));
  }
  for (; i < n; ++i) narrow(from[i], to + i);
}
#endif

}  // namespace
}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
