// Matrix products of a BLAS library whose address the caller gives: this code links to none.
#pragma once

#include <cstdint>

namespace bertkernels {

// sgemm as BLAS defines it: column by column, all arguments by address. Inside a parallel region it must run on the
// thread that calls it, as MKL's does.
using Sgemm = void (*)(const char* transpose_a, const char* transpose_b, const int* m, const int* n, const int* k,
                       const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
                       const float* beta, float* c, const int* ldc);

// The weight of a linear layer: G matrices of O rows of I numbers (torch.nn.Linear's [O, I]), or else of I rows of O.
struct LinearWeight {
  const float* data = nullptr;
  const float* bias = nullptr;  // [G·O]; may be null
  std::int64_t row = 0;         // strides
  std::int64_t group = 0;
  bool out_by_in = true;
};

}  // namespace bertkernels
