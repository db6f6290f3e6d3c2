// feed_forward_block, attention_block and mixed_block in Python. The last argument of a CPU function is the number of threads.
#pragma once

#include "../cpu/attention_block.h"
#include "../cpu/feed_forward_block.h"
#include "../cpu/isa.h"
#include "../cpu/mixed_block.h"
#include "arguments.h"

namespace bertkernels {

template <typename T>
inline T address(const py::handle& x) {
  return reinterpret_cast<T>(x.cast<std::uintptr_t>());
}

// (address, address of the bias or 0, stride of rows, stride of groups, whether rows are outputs).
inline LinearWeight linear_weight(const py::tuple& x) {
  return {address<const float*>(x[0]), address<const float*>(x[1]), x[2].cast<std::int64_t>(),
          x[3].cast<std::int64_t>(), x[4].cast<bool>()};
}

// (address of the weight, address of the bias, eps).
inline Norm norm(const py::tuple& x) {
  return {address<const float*>(x[0]), address<const float*>(x[1]), x[2].cast<double>()};
}

inline void bind_blocks(py::module_& m) {
  // shape: (M, C, F, G, activation); gemm: the address of BLAS's sgemm.
  m.def("feed_forward_block_forward_cpu",
        [](const py::tuple& shape, const py::tuple& x, const py::tuple& up, const py::tuple& down,
           const py::tuple& closing, const py::tuple& out, std::uintptr_t gemm, int threads) {
          FeedForwardBlock call;
          call.rows = shape[0].cast<std::int64_t>();
          call.channels = shape[1].cast<std::int64_t>();
          call.hidden = shape[2].cast<std::int64_t>();
          call.groups = shape[3].cast<std::int64_t>();
          call.activation = static_cast<Activation>(shape[4].cast<int>());
          call.x = matrix(x);
          call.up = linear_weight(up);
          call.down = linear_weight(down);
          call.norm = norm(closing);
          call.out = matrix(out);
          call.gemm = reinterpret_cast<Sgemm>(gemm);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(feed_forward_block_forward, call, threads));
        });
  // shape: (B, T, C, H, D, address of cu_seqlens or 0, scale); key_bias: (address or 0, stride of its rows); layers:
  // query, key, value, output.
  m.def("attention_block_forward_cpu",
        [](const py::tuple& shape, const py::tuple& x, const py::tuple& key_bias, const py::tuple& layers,
           const py::tuple& closing, const py::tuple& out, std::uintptr_t gemm, int threads) {
          AttentionBlock call;
          call.sequences = sequences(shape[0].cast<std::int64_t>(), shape[1].cast<std::int64_t>(), 0,
                                     shape[5].cast<std::uintptr_t>());
          call.channels = shape[2].cast<std::int64_t>();
          call.heads = shape[3].cast<std::int64_t>();
          call.width = shape[4].cast<std::int64_t>();
          call.scale = shape[6].cast<double>();
          call.x = matrix(x);
          call.key_bias = matrix(key_bias);
          LinearWeight* const weights[] = {&call.query, &call.key, &call.value, &call.output};
          for (std::size_t i = 0; i < 4; ++i) *weights[i] = linear_weight(layers[i].cast<py::tuple>());
          call.norm = norm(closing);
          call.out = matrix(out);
          call.gemm = reinterpret_cast<Sgemm>(gemm);
          check_contents("attention_block", call.sequences);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(attention_block_forward, call, threads));
        });
  // shape: (B, T, C, H, D, K, address of lengths or 0, address of cu_seqlens or 0, scale); key_bias: (address or 0,
  // stride of its rows); layers: query, key, value, conv_value, pointwise, kernel, output.
  m.def("mixed_block_forward_cpu",
        [](const py::tuple& shape, const py::tuple& x, const py::tuple& key_bias, const py::tuple& depthwise,
           const py::tuple& layers, const py::tuple& closing, const py::tuple& out, std::uintptr_t gemm, int threads) {
          MixedBlock call;
          call.sequences = sequences(shape[0].cast<std::int64_t>(), shape[1].cast<std::int64_t>(),
                                     shape[6].cast<std::uintptr_t>(), shape[7].cast<std::uintptr_t>());
          call.channels = shape[2].cast<std::int64_t>();
          call.heads = shape[3].cast<std::int64_t>();
          call.width = shape[4].cast<std::int64_t>();
          call.taps = shape[5].cast<std::int64_t>();
          call.scale = shape[8].cast<double>();
          call.x = matrix(x);
          call.key_bias = matrix(key_bias);
          call.depthwise = matrix(depthwise);
          LinearWeight* const weights[] = {&call.query,     &call.key,    &call.value, &call.conv_value,
                                           &call.pointwise, &call.kernel, &call.output};
          for (std::size_t i = 0; i < 7; ++i) *weights[i] = linear_weight(layers[i].cast<py::tuple>());
          call.norm = norm(closing);
          call.out = matrix(out);
          call.gemm = reinterpret_cast<Sgemm>(gemm);
          check_contents("mixed_block", call.sequences);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(mixed_block_forward, call, threads));
        });
}

}  // namespace bertkernels
