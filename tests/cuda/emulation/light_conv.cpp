// csrc/cuda/light_conv.cu as C++ for the CPU, with plain C functions to call it by.
#include "cuda/light_conv.cu"

#include "calls.h"

namespace {

bertkernels::LightConvShape shape(const std::int64_t* x) {
  bertkernels::LightConvShape result;
  result.sequences = emulation::sequences(x[0], x[1], x[5], x[6]);
  result.heads = x[2];
  result.width = x[3];
  result.taps = x[4];
  result.softmax = x[7] != 0;
  result.causal = x[8] != 0;
  result.dtype = static_cast<bertkernels::DType>(x[9]);
  return result;
}

}  // namespace

extern "C" const char* light_conv_forward(const std::int64_t* sizes, const std::int64_t* values,
                                          const std::int64_t* logits, const std::int64_t* out) {
  const auto of = [packed = sizes[6] != 0](const std::int64_t* x) { return emulation::operand(x, packed, true); };
  return emulation::outcome([=] {
    bertkernels::light_conv_forward_cuda({shape(sizes), of(values), of(logits), of(out)}, 0);
  });
}

extern "C" const char* light_conv_backward(const std::int64_t* sizes, const std::int64_t* grad,
                                           const std::int64_t* values, const std::int64_t* logits,
                                           const std::int64_t* d_values, const std::int64_t* d_logits) {
  const auto of = [packed = sizes[6] != 0](const std::int64_t* x) { return emulation::operand(x, packed, true); };
  return emulation::outcome([=] {
    bertkernels::light_conv_backward_cuda(
        {shape(sizes), of(grad), of(values), of(logits), of(d_values), of(d_logits)}, 0);
  });
}
