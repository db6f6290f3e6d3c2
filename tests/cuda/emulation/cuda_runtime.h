// Stands in for CUDA's header: the part of the language and of the runtime that csrc/cuda uses, on threads.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "threads.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One block runs at a time, so what a block shares is what there is one of.
#define __shared__ static
#define threadIdx (emulation::Block::current().thread())
#define blockIdx (emulation::Block::current().block)

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

inline void __syncthreads() { emulation::Block::current().wait_for_block(); }
inline void __syncwarp() { emulation::Block::current().wait_for_warp(); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  if (mask != 0xffffffffu) emulation::report("the emulation exchanges within whole warps only");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulation::Block::current().exchange(bits, lane_mask);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned x) : x(x) {}
};

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace emulation {
inline cudaError_t next_launch = cudaSuccess;  // what the next launch comes to
}

inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration argument"; }
inline const char* cudaGetErrorName(cudaError_t) { return "cudaErrorInvalidConfiguration"; }
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emulation::next_launch;
  emulation::next_launch = cudaSuccess;
  return error;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  if (emulation::next_launch != cudaSuccess) return emulation::next_launch;
  emulation::Block& block = emulation::Block::current();
  for (unsigned x = 0; x < config->gridDim.x; ++x) {
    block.block.x = emulation::reversed ? config->gridDim.x - 1 - x : x;
    block.run(static_cast<int>(config->blockDim.x), [&] { kernel(arguments...); });
  }
  return cudaSuccess;
}
