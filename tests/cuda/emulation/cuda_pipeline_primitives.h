// Stands in for CUDA's header.
#pragma once

#include "cuda_runtime.h"

inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t bytes) {
  if (bytes != 4 && bytes != 8 && bytes != 16) emulation::report("asynchronous copies are of 4, 8 or 16 bytes");
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 || reinterpret_cast<std::uintptr_t>(from) % bytes != 0) {
    emulation::report("an asynchronous copy is not aligned to its size");
  }
  emulation::Block::current().copy_later(to, from, bytes);
}
inline void __pipeline_commit() {}
inline void __pipeline_wait_prior(std::size_t) { emulation::Block::current().finish_copies(); }
