// depthwise_conv in Python. The last argument of a CPU function is the number of threads; of a CUDA function, the stream.
#pragma once

#include "../cpu/depthwise_conv.h"
#include "../cpu/isa.h"
#include "arguments.h"
#if defined(BERTKERNELS_WITH_CUDA)
#include "../cuda/depthwise_conv.h"
#endif

namespace bertkernels {

// (B, T, C, K, address of lengths or 0, address of cu_seqlens or 0, causal, dtype).
inline DepthwiseConvShape depthwise_conv_shape(const py::tuple& x) {
  DepthwiseConvShape shape;
  shape.sequences = sequences(x[0].cast<std::int64_t>(), x[1].cast<std::int64_t>(), x[4].cast<std::uintptr_t>(),
                              x[5].cast<std::uintptr_t>());
  shape.channels = x[2].cast<std::int64_t>();
  shape.taps = x[3].cast<std::int64_t>();
  shape.causal = x[6].cast<bool>();
  shape.dtype = static_cast<DType>(x[7].cast<int>());
  return shape;
}

inline DepthwiseConvForward depthwise_conv_forward_call(const py::tuple& shape, const py::tuple& x,
                                                        const py::tuple& weight, std::uintptr_t bias,
                                                        const py::tuple& out) {
  DepthwiseConvForward call;
  call.shape = depthwise_conv_shape(shape);
  const bool packed = call.shape.sequences.cu_seqlens != nullptr;
  call.x = operand(x, packed);
  call.weight = operand(weight, true);
  call.bias = reinterpret_cast<const void*>(bias);
  call.out = operand(out, packed);
  return call;
}

// Outputs are contiguous; address 0 where they are not wanted.
inline DepthwiseConvBackward depthwise_conv_backward_call(const py::tuple& shape, const py::tuple& grad,
                                                          const py::tuple& x, const py::tuple& weight,
                                                          std::uintptr_t d_x, std::uintptr_t d_weight,
                                                          std::uintptr_t d_bias) {
  DepthwiseConvBackward call;
  call.shape = depthwise_conv_shape(shape);
  const bool packed = call.shape.sequences.cu_seqlens != nullptr;
  call.grad = operand(grad, packed);
  call.x = operand(x, packed);
  call.weight = operand(weight, true);
  call.d_x.data = reinterpret_cast<void*>(d_x);
  call.d_x.batch = packed ? 0 : call.shape.sequences.tokens * call.shape.channels;
  call.d_x.token = call.shape.channels;
  call.d_weight = reinterpret_cast<void*>(d_weight);
  call.d_bias = reinterpret_cast<void*>(d_bias);
  return call;
}

inline void bind_depthwise_conv(py::module_& m) {
  m.def("depthwise_conv_forward_cpu", [](const py::tuple& shape, const py::tuple& x, const py::tuple& weight,
                                         std::uintptr_t bias, const py::tuple& out, int threads) {
    const auto call = depthwise_conv_forward_call(shape, x, weight, bias, out);
    check_contents("depthwise_conv", call.shape.sequences);
    py::gil_scoped_release release;
    require_memory(BERTKERNELS_CALL(depthwise_conv_forward, call, threads));
  });
  m.def("depthwise_conv_backward_cpu",
        [](const py::tuple& shape, const py::tuple& grad, const py::tuple& x, const py::tuple& weight,
           std::uintptr_t d_x, std::uintptr_t d_weight, std::uintptr_t d_bias, int threads) {
          const auto call = depthwise_conv_backward_call(shape, grad, x, weight, d_x, d_weight, d_bias);
          check_contents("depthwise_conv", call.shape.sequences);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(depthwise_conv_backward, call, threads));
        });
#if defined(BERTKERNELS_WITH_CUDA)
  m.def("depthwise_conv_forward_cuda", [](const py::tuple& shape, const py::tuple& x, const py::tuple& weight,
                                          std::uintptr_t bias, const py::tuple& out, std::uintptr_t stream) {
    const auto call = depthwise_conv_forward_call(shape, x, weight, bias, out);
    py::gil_scoped_release release;
    depthwise_conv_forward_cuda(call, stream);
  });
  m.def("depthwise_conv_backward_cuda",
        [](const py::tuple& shape, const py::tuple& grad, const py::tuple& x, const py::tuple& weight,
           std::uintptr_t d_x, std::uintptr_t d_weight, std::uintptr_t d_bias, std::uintptr_t sums,
           std::uintptr_t stream) {
          const auto call = depthwise_conv_backward_call(shape, grad, x, weight, d_x, d_weight, d_bias);
          py::gil_scoped_release release;
          depthwise_conv_backward_cuda(call, reinterpret_cast<void*>(sums), stream);
        });
  m.def("depthwise_conv_sums_cuda",
        [](const py::tuple& shape) { return depthwise_conv_sums_cuda(depthwise_conv_shape(shape)); });
#endif
}

}  // namespace bertkernels
