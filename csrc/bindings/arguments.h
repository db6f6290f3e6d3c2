// What the arguments of compiled functions look like in Python, and checks of what they point at.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include "../operand.h"
#include "../sequences.h"

namespace bertkernels {

namespace py = pybind11;

// (address, strides of all dimensions but the last): [batch,] token [, head].
inline Operand operand(const py::tuple& x, bool packed) {
  Operand result;
  std::size_t i = 0;
  result.data = reinterpret_cast<void*>(x[i++].cast<std::uintptr_t>());
  if (!packed) result.batch = x[i++].cast<std::int64_t>();
  result.token = x[i++].cast<std::int64_t>();
  if (i < x.size()) result.head = x[i].cast<std::int64_t>();
  return result;
}

inline Sequences sequences(std::int64_t batches, std::int64_t tokens, std::uintptr_t lengths,
                           std::uintptr_t cu_seqlens) {
  return {batches, tokens, reinterpret_cast<const std::int32_t*>(lengths),
          reinterpret_cast<const std::int32_t*>(cu_seqlens)};
}

// On the CPU the contents can be read, so they are checked: the kernels index memory with them.
inline void check_contents(const char* op, const Sequences& s) {
  const std::string name = op;
  if (s.lengths != nullptr) {
    for (std::int64_t b = 0; b < s.batches; ++b) {
      if (s.lengths[b] < 0 || s.lengths[b] > s.tokens) {
        throw std::invalid_argument(name + ": lengths must lie in 0..T = 0.." + std::to_string(s.tokens) +
                                    ", got lengths[" + std::to_string(b) + "] = " + std::to_string(s.lengths[b]));
      }
    }
  }
  if (s.cu_seqlens != nullptr) {
    if (s.cu_seqlens[0] != 0 || s.cu_seqlens[s.batches] != s.tokens) {
      throw std::invalid_argument(name + ": cu_seqlens must run from 0 to the number of tokens " +
                                  std::to_string(s.tokens) + ", got " + std::to_string(s.cu_seqlens[0]) + ".." +
                                  std::to_string(s.cu_seqlens[s.batches]));
    }
    for (std::int64_t b = 0; b < s.batches; ++b) {
      if (s.cu_seqlens[b + 1] < s.cu_seqlens[b]) {
        throw std::invalid_argument(name + ": cu_seqlens must not decrease, got cu_seqlens[" + std::to_string(b + 1) +
                                    "] = " + std::to_string(s.cu_seqlens[b + 1]) + " after " +
                                    std::to_string(s.cu_seqlens[b]));
      }
    }
  }
}

inline Matrix matrix(const py::tuple& x) {
  return {reinterpret_cast<void*>(x[0].cast<std::uintptr_t>()), x[1].cast<std::int64_t>()};
}

inline void require_memory(bool enough) {
  if (!enough) throw std::bad_alloc();
}

}  // namespace bertkernels
