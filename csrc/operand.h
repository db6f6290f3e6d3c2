// Tensors as the kernels see them: an address and strides in elements. The last dimension is contiguous.
#pragma once

#include <cstdint>

namespace bertkernels {

struct Operand {
  void* data = nullptr;
  std::int64_t batch = 0;  // 0 in the packed form
  std::int64_t token = 0;
  std::int64_t head = 0;  // 0 where the op has no heads
};

// Rows of C contiguous elements, `stride` elements apart.
struct Matrix {
  void* data = nullptr;
  std::int64_t stride = 0;
};

}  // namespace bertkernels
