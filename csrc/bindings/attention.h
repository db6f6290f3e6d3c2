// attention in Python. The last argument of a CPU function is the number of threads.
#pragma once

#include "../cpu/attention.h"
#include "../cpu/isa.h"
#include "arguments.h"

namespace bertkernels {

// (B, T, H, D, address of lengths or 0, address of cu_seqlens or 0, scale, dropped of 65,536, address of the seed or 0,
// dtype).
inline AttentionShape attention_shape(const py::tuple& x) {
  AttentionShape shape;
  shape.sequences = sequences(x[0].cast<std::int64_t>(), x[1].cast<std::int64_t>(), x[4].cast<std::uintptr_t>(),
                              x[5].cast<std::uintptr_t>());
  shape.heads = x[2].cast<std::int64_t>();
  shape.width = x[3].cast<std::int64_t>();
  shape.scale = x[6].cast<double>();
  shape.dropped = x[7].cast<std::int64_t>();
  shape.seed = reinterpret_cast<const std::int64_t*>(x[8].cast<std::uintptr_t>());
  shape.dtype = static_cast<DType>(x[9].cast<int>());
  return shape;
}

// key_bias: (address or 0, stride of its rows).
inline AttentionForward attention_forward_call(const py::tuple& shape, const py::tuple& query, const py::tuple& key,
                                               const py::tuple& value, const py::tuple& key_bias, const py::tuple& out,
                                               std::uintptr_t lse) {
  AttentionForward call;
  call.shape = attention_shape(shape);
  const bool packed = call.shape.sequences.cu_seqlens != nullptr;
  call.query = operand(query, packed);
  call.key = operand(key, packed);
  call.value = operand(value, packed);
  call.key_bias = matrix(key_bias);
  call.out = operand(out, packed);
  call.lse = reinterpret_cast<void*>(lse);
  return call;
}

inline AttentionBackward attention_backward_call(const py::tuple& shape, const py::tuple& grad, const py::tuple& query,
                                                 const py::tuple& key, const py::tuple& value,
                                                 const py::tuple& key_bias, const py::tuple& out, std::uintptr_t lse,
                                                 const py::tuple& d_query, const py::tuple& d_key,
                                                 const py::tuple& d_value) {
  AttentionBackward call;
  call.shape = attention_shape(shape);
  const bool packed = call.shape.sequences.cu_seqlens != nullptr;
  call.grad = operand(grad, packed);
  call.query = operand(query, packed);
  call.key = operand(key, packed);
  call.value = operand(value, packed);
  call.key_bias = matrix(key_bias);
  call.out = operand(out, packed);
  call.lse = reinterpret_cast<const void*>(lse);
  call.d_query = operand(d_query, packed);
  call.d_key = operand(d_key, packed);
  call.d_value = operand(d_value, packed);
  return call;
}

inline void bind_attention(py::module_& m) {
  m.def("attention_forward_cpu",
        [](const py::tuple& shape, const py::tuple& query, const py::tuple& key, const py::tuple& value,
           const py::tuple& key_bias, const py::tuple& out, std::uintptr_t lse, int threads) {
          const auto call = attention_forward_call(shape, query, key, value, key_bias, out, lse);
          check_contents("attention", call.shape.sequences);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(attention_forward, call, threads));
        });
  m.def("attention_backward_cpu",
        [](const py::tuple& shape, const py::tuple& grad, const py::tuple& query, const py::tuple& key,
           const py::tuple& value, const py::tuple& key_bias, const py::tuple& out, std::uintptr_t lse,
           const py::tuple& d_query, const py::tuple& d_key, const py::tuple& d_value, int threads) {
          const auto call = attention_backward_call(shape, grad, query, key, value, key_bias, out, lse, d_query, d_key,
                                                    d_value);
          check_contents("attention", call.shape.sequences);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(attention_backward, call, threads));
        });
}

}  // namespace bertkernels
