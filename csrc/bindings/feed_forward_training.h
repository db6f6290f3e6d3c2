// feed_forward_block with gradients in Python. The last argument of a CPU function is the number of threads.
#pragma once

#include "../cpu/feed_forward_training.h"
#include "../cpu/isa.h"
#include "arguments.h"
#include "blocks.h"
#include "residual_norm.h"

namespace bertkernels {

// shape: (M, C, F, G, activation); layers: (up, down); gemm: the address of BLAS's sgemm.
inline FeedForwardBlock feed_forward(const py::tuple& shape, const py::tuple& x, const py::tuple& layers,
                                     const py::tuple& closing, std::uintptr_t gemm) {
  FeedForwardBlock block;
  block.rows = shape[0].cast<std::int64_t>();
  block.channels = shape[1].cast<std::int64_t>();
  block.hidden = shape[2].cast<std::int64_t>();
  block.groups = shape[3].cast<std::int64_t>();
  block.activation = static_cast<Activation>(shape[4].cast<int>());
  block.x = matrix(x);
  block.up = linear_weight(layers[0].cast<py::tuple>());
  block.down = linear_weight(layers[1].cast<py::tuple>());
  block.norm = norm(closing);
  block.gemm = reinterpret_cast<Sgemm>(gemm);
  return block;
}

// Addresses of (product, result, moments).
inline FeedForwardKept feed_forward_kept(const py::tuple& x) {
  return {address<float*>(x[0]), address<float*>(x[1]), address<float*>(x[2])};
}

inline void bind_feed_forward_training(py::module_& m) {
  m.def("feed_forward_training_forward_cpu",
        [](const py::tuple& shape, const py::tuple& x, const py::tuple& layers, const py::tuple& closing,
           const py::tuple& drop, const py::tuple& out, const py::tuple& kept, std::uintptr_t gemm, int threads) {
          FeedForwardTrainingForward call;
          call.block = feed_forward(shape, x, layers, closing, gemm);
          call.block.out = matrix(out);
          call.dropout = dropout(drop);
          call.kept = feed_forward_kept(kept);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(feed_forward_training_forward, call, threads));
        });
  // gradients: addresses of d_x (or 0), hidden, d_product, d_result, and of the gradients of both biases, up and down,
  // and of the norm's weight and bias.
  m.def("feed_forward_training_backward_cpu",
        [](const py::tuple& shape, const py::tuple& x, const py::tuple& layers, const py::tuple& closing,
           const py::tuple& drop, const py::tuple& grad, const py::tuple& kept, const py::tuple& gradients,
           std::uintptr_t gemm, int threads) {
          FeedForwardTrainingBackward call;
          call.block = feed_forward(shape, x, layers, closing, gemm);
          call.dropout = dropout(drop);
          call.kept = feed_forward_kept(kept);
          call.grad = matrix(grad);
          float** const outputs[] = {&call.d_x,       &call.hidden,      &call.d_product,     &call.d_result,
                                     &call.d_up_bias, &call.d_down_bias, &call.d_norm_weight, &call.d_norm_bias};
          for (std::size_t i = 0; i < 8; ++i) *outputs[i] = address<float*>(gradients[i]);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(feed_forward_training_backward, call, threads));
        });
}

}  // namespace bertkernels
