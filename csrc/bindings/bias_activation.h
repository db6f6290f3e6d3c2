// bias_activation in Python. The last argument of a CPU function is the number of threads.
#pragma once

#include "../cpu/bias_activation.h"
#include "../cpu/isa.h"
#include "arguments.h"

namespace bertkernels {

// (M, C, activation, dtype).
inline BiasActivationShape bias_activation_shape(const py::tuple& x) {
  BiasActivationShape shape;
  shape.rows = x[0].cast<std::int64_t>();
  shape.columns = x[1].cast<std::int64_t>();
  shape.activation = static_cast<Activation>(x[2].cast<int>());
  shape.dtype = static_cast<DType>(x[3].cast<int>());
  return shape;
}

inline BiasActivationForward bias_activation_forward_call(const py::tuple& shape, const py::tuple& x,
                                                          std::uintptr_t bias, const py::tuple& out) {
  return {bias_activation_shape(shape), matrix(x), reinterpret_cast<const void*>(bias), matrix(out)};
}

// Address 0 for outputs that are not wanted.
inline BiasActivationBackward bias_activation_backward_call(const py::tuple& shape, const py::tuple& grad,
                                                            const py::tuple& x, std::uintptr_t bias,
                                                            const py::tuple& d_x, std::uintptr_t d_bias) {
  return {bias_activation_shape(shape),        matrix(grad), matrix(x),
          reinterpret_cast<const void*>(bias), matrix(d_x),  reinterpret_cast<void*>(d_bias)};
}

inline void bind_bias_activation(py::module_& m) {
  m.def("bias_activation_forward_cpu",
        [](const py::tuple& shape, const py::tuple& x, std::uintptr_t bias, const py::tuple& out, int threads) {
          const auto call = bias_activation_forward_call(shape, x, bias, out);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(bias_activation_forward, call, threads));
        });
  m.def("bias_activation_backward_cpu",
        [](const py::tuple& shape, const py::tuple& grad, const py::tuple& x, std::uintptr_t bias, const py::tuple& d_x,
           std::uintptr_t d_bias, int threads) {
          const auto call = bias_activation_backward_call(shape, grad, x, bias, d_x, d_bias);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(bias_activation_backward, call, threads));
        });
}

}  // namespace bertkernels
