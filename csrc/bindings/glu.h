// glu in Python. The last argument of a CPU function is the number of threads.
#pragma once

#include "../cpu/glu.h"
#include "../cpu/isa.h"
#include "arguments.h"

namespace bertkernels {

// (M, C, dtype).
inline GluShape glu_shape(const py::tuple& x) {
  GluShape shape;
  shape.rows = x[0].cast<std::int64_t>();
  shape.columns = x[1].cast<std::int64_t>();
  shape.dtype = static_cast<DType>(x[2].cast<int>());
  return shape;
}

inline void bind_glu(py::module_& m) {
  // Address 0 for biases that are not there.
  m.def("glu_forward_cpu", [](const py::tuple& shape, const py::tuple& left, const py::tuple& gate,
                              std::uintptr_t left_bias, std::uintptr_t gate_bias, const py::tuple& out, int threads) {
    const GluForward call{glu_shape(shape),
                          matrix(left),
                          matrix(gate),
                          reinterpret_cast<const void*>(left_bias),
                          reinterpret_cast<const void*>(gate_bias),
                          matrix(out)};
    py::gil_scoped_release release;
    require_memory(BERTKERNELS_CALL(glu_forward, call, threads));
  });
  // Likewise for outputs that are not wanted.
  m.def("glu_backward_cpu",
        [](const py::tuple& shape, const py::tuple& grad, const py::tuple& out, const py::tuple& gate,
           std::uintptr_t gate_bias, const py::tuple& d_left, const py::tuple& d_gate, std::uintptr_t d_left_bias,
           std::uintptr_t d_gate_bias, int threads) {
          const GluBackward call{glu_shape(shape),
                                 matrix(grad),
                                 matrix(out),
                                 matrix(gate),
                                 reinterpret_cast<const void*>(gate_bias),
                                 matrix(d_left),
                                 matrix(d_gate),
                                 reinterpret_cast<void*>(d_left_bias),
                                 reinterpret_cast<void*>(d_gate_bias)};
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(glu_backward, call, threads));
        });
}

}  // namespace bertkernels
