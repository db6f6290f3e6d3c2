// light_conv in Python. The last argument of a CPU function is the number of threads; of a CUDA function, the stream.
#pragma once

#include "../cpu/isa.h"
#include "../cpu/light_conv.h"
#include "arguments.h"
#if defined(BERTKERNELS_WITH_CUDA)
#include "../cuda/light_conv.h"
#endif

namespace bertkernels {

// (B, T, H, D, K, address of lengths or 0, address of cu_seqlens or 0, softmax, causal, dtype).
inline LightConvShape light_conv_shape(const py::tuple& x) {
  LightConvShape shape;
  shape.sequences = sequences(x[0].cast<std::int64_t>(), x[1].cast<std::int64_t>(), x[5].cast<std::uintptr_t>(),
                              x[6].cast<std::uintptr_t>());
  shape.heads = x[2].cast<std::int64_t>();
  shape.width = x[3].cast<std::int64_t>();
  shape.taps = x[4].cast<std::int64_t>();
  shape.softmax = x[7].cast<bool>();
  shape.causal = x[8].cast<bool>();
  shape.dtype = static_cast<DType>(x[9].cast<int>());
  return shape;
}

inline LightConvForward light_conv_forward_call(const py::tuple& shape, const py::tuple& values,
                                                const py::tuple& logits, const py::tuple& out) {
  LightConvForward call;
  call.shape = light_conv_shape(shape);
  const bool packed = call.shape.sequences.cu_seqlens != nullptr;
  call.values = operand(values, packed);
  call.logits = operand(logits, packed);
  call.out = operand(out, packed);
  return call;
}

inline LightConvBackward light_conv_backward_call(const py::tuple& shape, const py::tuple& grad,
                                                  const py::tuple& values, const py::tuple& logits,
                                                  const py::tuple& d_values, const py::tuple& d_logits) {
  LightConvBackward call;
  call.shape = light_conv_shape(shape);
  const bool packed = call.shape.sequences.cu_seqlens != nullptr;
  call.grad = operand(grad, packed);
  call.values = operand(values, packed);
  call.logits = operand(logits, packed);
  call.d_values = operand(d_values, packed);
  call.d_logits = operand(d_logits, packed);
  return call;
}

inline void bind_light_conv(py::module_& m) {
  m.def("light_conv_forward_cpu", [](const py::tuple& shape, const py::tuple& values, const py::tuple& logits,
                                     const py::tuple& out, int threads) {
    const auto call = light_conv_forward_call(shape, values, logits, out);
    check_contents("light_conv", call.shape.sequences);
    py::gil_scoped_release release;
    require_memory(BERTKERNELS_CALL(light_conv_forward, call, threads));
  });
  m.def("light_conv_backward_cpu",
        [](const py::tuple& shape, const py::tuple& grad, const py::tuple& values, const py::tuple& logits,
           const py::tuple& d_values, const py::tuple& d_logits, int threads) {
          const auto call = light_conv_backward_call(shape, grad, values, logits, d_values, d_logits);
          check_contents("light_conv", call.shape.sequences);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(light_conv_backward, call, threads));
        });
#if defined(BERTKERNELS_WITH_CUDA)
  m.def("light_conv_forward_cuda", [](const py::tuple& shape, const py::tuple& values, const py::tuple& logits,
                                      const py::tuple& out, std::uintptr_t stream) {
    const auto call = light_conv_forward_call(shape, values, logits, out);
    py::gil_scoped_release release;
    light_conv_forward_cuda(call, stream);
  });
  m.def("light_conv_backward_cuda",
        [](const py::tuple& shape, const py::tuple& grad, const py::tuple& values, const py::tuple& logits,
           const py::tuple& d_values, const py::tuple& d_logits, std::uintptr_t stream) {
          const auto call = light_conv_backward_call(shape, grad, values, logits, d_values, d_logits);
          py::gil_scoped_release release;
          light_conv_backward_cuda(call, stream);
        });
#endif
}

}  // namespace bertkernels
