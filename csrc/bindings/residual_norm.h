// residual_norm in Python. The last argument of a CPU function is the number of threads.
#pragma once

#include "../cpu/isa.h"
#include "../cpu/residual_norm.h"
#include "arguments.h"

namespace bertkernels {

// (M, C, dtype).
inline ResidualNormShape residual_norm_shape(const py::tuple& x) {
  ResidualNormShape shape;
  shape.rows = x[0].cast<std::int64_t>();
  shape.columns = x[1].cast<std::int64_t>();
  shape.dtype = static_cast<DType>(x[2].cast<int>());
  return shape;
}

// (address of the seed, or 0 for no dropout; threshold; scale).
inline Dropout dropout(const py::tuple& x) {
  return {reinterpret_cast<const std::int64_t*>(x[0].cast<std::uintptr_t>()), x[1].cast<std::uint32_t>(),
          x[2].cast<double>()};
}

inline void bind_residual_norm(py::module_& m) {
  m.def("residual_norm_forward_cpu",
        [](const py::tuple& shape, const py::tuple& drop, double eps, const py::tuple& x, const py::tuple& residual,
           std::uintptr_t weight, std::uintptr_t bias, const py::tuple& out, std::uintptr_t moments, int threads) {
          ResidualNormForward call;
          call.shape = residual_norm_shape(shape);
          call.dropout = dropout(drop);
          call.eps = eps;
          call.x = matrix(x);
          call.residual = matrix(residual);
          call.weight = reinterpret_cast<const void*>(weight);
          call.bias = reinterpret_cast<const void*>(bias);
          call.out = matrix(out);
          call.moments = reinterpret_cast<void*>(moments);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(residual_norm_forward, call, threads));
        });
  // Address 0 for outputs that are not wanted.
  m.def("residual_norm_backward_cpu",
        [](const py::tuple& shape, const py::tuple& drop, const py::tuple& grad, const py::tuple& x,
           const py::tuple& residual, std::uintptr_t weight, std::uintptr_t moments, const py::tuple& d_x,
           const py::tuple& d_residual, std::uintptr_t d_weight, std::uintptr_t d_bias, int threads) {
          ResidualNormBackward call;
          call.shape = residual_norm_shape(shape);
          call.dropout = dropout(drop);
          call.grad = matrix(grad);
          call.x = matrix(x);
          call.residual = matrix(residual);
          call.weight = reinterpret_cast<const void*>(weight);
          call.moments = reinterpret_cast<const void*>(moments);
          call.d_x = matrix(d_x);
          call.d_residual = matrix(d_residual);
          call.d_weight = reinterpret_cast<void*>(d_weight);
          call.d_bias = reinterpret_cast<void*>(d_bias);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(residual_norm_backward, call, threads));
        });
}

}  // namespace bertkernels
