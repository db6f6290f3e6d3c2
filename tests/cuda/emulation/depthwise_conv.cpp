// csrc/cuda/depthwise_conv.cu as C++ for the CPU, with plain C functions to call it by.
#include "cuda/depthwise_conv.cu"

#include "calls.h"

namespace {

bertkernels::DepthwiseConvShape shape(const std::int64_t* x) {
  bertkernels::DepthwiseConvShape result;
  result.sequences = emulation::sequences(x[0], x[1], x[4], x[5]);
  result.channels = x[2];
  result.taps = x[3];
  result.causal = x[6] != 0;
  result.dtype = static_cast<bertkernels::DType>(x[7]);
  return result;
}

}  // namespace

extern "C" std::int64_t depthwise_conv_sums(const std::int64_t* sizes) {
  return bertkernels::depthwise_conv_sums_cuda(shape(sizes));
}

extern "C" const char* depthwise_conv_forward(const std::int64_t* sizes, const std::int64_t* x,
                                              const std::int64_t* weight, void* bias, const std::int64_t* out) {
  const auto of = [packed = sizes[5] != 0](const std::int64_t* x) { return emulation::operand(x, packed); };
  return emulation::outcome([=] {
    bertkernels::depthwise_conv_forward_cuda(
        {shape(sizes), of(x), emulation::operand(weight, true), bias, of(out)}, 0);
  });
}

extern "C" const char* depthwise_conv_backward(const std::int64_t* sizes, const std::int64_t* grad,
                                               const std::int64_t* x, const std::int64_t* weight, void* d_x,
                                               void* d_weight, void* d_bias, void* sums) {
  const bool packed = sizes[5] != 0;
  const auto of = [packed](const std::int64_t* x) { return emulation::operand(x, packed); };
  const bertkernels::Operand gradient{d_x, packed ? 0 : sizes[1] * sizes[2], sizes[2], 0};
  return emulation::outcome([=] {
    bertkernels::depthwise_conv_backward_cuda(
        {shape(sizes), of(grad), of(x), emulation::operand(weight, true), gradient, d_weight, d_bias}, sums, 0);
  });
}
