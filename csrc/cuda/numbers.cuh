// Number types on the device: what each dtype is summed in, and 16-byte vectors of it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace bertkernels {

template <typename T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <typename T>
using sum_t = typename SumOf<T>::type;

constexpr int kVectorBytes = 16;  // the widest access a thread can make

template <typename T>
constexpr int kVectorWidth = kVectorBytes / static_cast<int>(sizeof(T));

template <typename T>
struct alignas(kVectorBytes) Vector {
  T x[kVectorWidth<T>];
};

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }

__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(double x, double& to) { to = x; }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16& to) { to = __float2bfloat16_rn(x); }
__device__ __forceinline__ void narrow(float x, __half& to) { to = __float2half_rn(x); }

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

// Two at once: one instruction for the 16-bit types.
template <typename T>
__device__ __forceinline__ void narrow_pair(sum_t<T> a, sum_t<T> b, T* to) {
  narrow(a, to[0]);
  narrow(b, to[1]);
}
__device__ __forceinline__ void narrow_pair(float a, float b, __nv_bfloat16* to) {
  *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(a, b);
}
__device__ __forceinline__ void narrow_pair(float a, float b, __half* to) {
  *reinterpret_cast<__half2*>(to) = __floats2half2_rn(a, b);
}

// Vectors are moved as uint4, so that the compiler never splits the access.
template <typename T>
__device__ __forceinline__ void load_vector(const Vector<T>& from, sum_t<T> (&to)[kVectorWidth<T>]) {
  Vector<T> vector;
  *reinterpret_cast<uint4*>(&vector) = *reinterpret_cast<const uint4*>(&from);
#pragma unroll
  for (int i = 0; i < kVectorWidth<T>; ++i) to[i] = widen(vector.x[i]);
}

template <typename T>
__device__ __forceinline__ void store_vector(const sum_t<T> (&from)[kVectorWidth<T>], T* to) {
  Vector<T> vector;
#pragma unroll
  for (int i = 0; i < kVectorWidth<T>; i += 2) narrow_pair(from[i], from[i + 1], vector.x + i);
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(&vector);
}

}  // namespace bertkernels
