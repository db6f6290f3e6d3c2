// dynamic_conv_block in Python. The last argument of a CPU function is the number of threads.
#pragma once

#include "../cpu/dynamic_conv_block.h"
#include "../cpu/isa.h"
#include "arguments.h"
#include "blocks.h"
#include "residual_norm.h"

namespace bertkernels {

// shape: (B, T, C, H, D, K, S, address of cu_seqlens or 0); layers: value, gate, kernel, output, and pointwise unless the
// kernel's holds it; kept: addresses of (gated, gate, logits, result, moments), or all 0; gemm: the address of sgemm.
inline DynamicConvBlock dynamic_conv(const py::tuple& shape, const py::tuple& x, const py::tuple& depthwise,
                                     const py::tuple& layers, const py::tuple& closing, const py::tuple& drop,
                                     const py::tuple& kept, std::uintptr_t gemm) {
  DynamicConvBlock block;
  block.sequences = sequences(shape[0].cast<std::int64_t>(), shape[1].cast<std::int64_t>(), 0,
                              shape[7].cast<std::uintptr_t>());
  std::int64_t* const sizes[] = {&block.channels, &block.heads, &block.width, &block.taps, &block.span};
  for (std::size_t i = 0; i < 5; ++i) *sizes[i] = shape[i + 2].cast<std::int64_t>();
  block.x = matrix(x);
  block.depthwise = matrix(depthwise);
  LinearWeight* const weights[] = {&block.value, &block.gate, &block.kernel, &block.output, &block.pointwise};
  for (std::size_t i = 0; i < layers.size(); ++i) *weights[i] = linear_weight(layers[i].cast<py::tuple>());
  block.norm = norm(closing);
  block.dropout = dropout(drop);
  block.kept = {address<float*>(kept[0]), address<float*>(kept[1]), address<float*>(kept[2]), address<float*>(kept[3]),
                address<float*>(kept[4])};
  block.gemm = reinterpret_cast<Sgemm>(gemm);
  check_contents("dynamic_conv_block", block.sequences);
  return block;
}

inline void bind_dynamic_conv_block(py::module_& m) {
  m.def("dynamic_conv_block_forward_cpu",
        [](const py::tuple& shape, const py::tuple& x, const py::tuple& depthwise, const py::tuple& layers,
           const py::tuple& closing, const py::tuple& drop, const py::tuple& kept, const py::tuple& out,
           std::uintptr_t gemm, int threads) {
          DynamicConvBlock call = dynamic_conv(shape, x, depthwise, layers, closing, drop, kept, gemm);
          call.out = matrix(out);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(dynamic_conv_block_forward, call, threads));
        });
  // gradients: addresses of d_x, d_projections, d_kernel and d_output, each 0 where not wanted, and of d_vectors.
  m.def("dynamic_conv_block_backward_cpu",
        [](const py::tuple& shape, const py::tuple& x, const py::tuple& depthwise, const py::tuple& layers,
           const py::tuple& closing, const py::tuple& drop, const py::tuple& kept, const py::tuple& grad,
           const py::tuple& gradients, std::uintptr_t gemm, int threads) {
          DynamicConvBlockBackward call;
          call.block = dynamic_conv(shape, x, depthwise, layers, closing, drop, kept, gemm);
          call.grad = matrix(grad);
          float** const outputs[] = {&call.d_x, &call.d_projections, &call.d_kernel, &call.d_output, &call.d_vectors};
          for (std::size_t i = 0; i < 5; ++i) *outputs[i] = address<float*>(gradients[i]);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(dynamic_conv_block_backward, call, threads));
        });
}

}  // namespace bertkernels
