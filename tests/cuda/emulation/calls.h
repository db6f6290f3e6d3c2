// What the C functions have in common by which tests call the emulated kernels.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "operand.h"
#include "sequences.h"
#include "threads.h"

namespace emulation {

// (address, strides of all dimensions but the last): [batch,] token [, head].
inline bertkernels::Operand operand(const std::int64_t* x, bool packed, bool heads = false) {
  bertkernels::Operand result;
  result.data = reinterpret_cast<void*>(*x++);
  if (!packed) result.batch = *x++;
  result.token = *x++;
  if (heads) result.head = *x;
  return result;
}

inline bertkernels::Sequences sequences(std::int64_t batches, std::int64_t tokens, std::int64_t lengths,
                                        std::int64_t cu_seqlens) {
  return {batches, tokens, reinterpret_cast<const std::int32_t*>(lengths),
          reinterpret_cast<const std::int32_t*>(cu_seqlens)};
}

// "" or what went wrong.
template <typename Run>
const char* outcome(Run run) {
  static std::string message;
  fault.clear();
  message.clear();
  try {
    run();
    message = fault;
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}

}  // namespace emulation
