// Launches a kernel over any number of tiles and turns what the launch reports into an exception.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#ifndef BERTKERNELS_MAX_BLOCKS
#define BERTKERNELS_MAX_BLOCKS 0x7fffffff  // what the first dimension of a grid can hold; tests make it small
#endif

namespace bertkernels {

// Runs `kernel(call, first_tile, aligned)` with `blocks_per_tile` blocks for each of `tiles` tiles, all along the
// grid's first dimension, the only one that goes beyond 65,535; in several launches where even that is too short.
template <typename Call>
void launch_tiles(const char* name, void (*kernel)(Call, std::int64_t, bool), const Call& call, std::int64_t tiles,
                  std::int64_t blocks_per_tile, int threads, bool aligned, cudaStream_t stream) {
  constexpr std::int64_t kMaxBlocks = BERTKERNELS_MAX_BLOCKS;
  const auto fail = [name](const std::string& what) { throw std::runtime_error(std::string(name) + ": " + what); };
  if (blocks_per_tile <= 0) return;
  const std::int64_t tiles_per_launch = kMaxBlocks / blocks_per_tile;
  if (tiles_per_launch == 0) fail(std::to_string(blocks_per_tile) + " heads × channels are too many to launch");
  for (std::int64_t first = 0; first < tiles; first += tiles_per_launch) {
    const std::int64_t count = tiles - first < tiles_per_launch ? tiles - first : tiles_per_launch;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(count * blocks_per_tile));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.stream = stream;
    const cudaError_t status = cudaLaunchKernelEx(&config, kernel, call, first, aligned);
    if (status != cudaSuccess) {
      cudaGetLastError();  // or the next launch would report it again
      fail(std::string("CUDA launch failed: ") + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
    }
  }
}

}  // namespace bertkernels
