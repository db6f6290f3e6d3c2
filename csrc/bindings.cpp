// The Python module bertkernels._C: plain addresses, sizes and strides in, nothing of torch.
#include <pybind11/pybind11.h>

#include <new>
#include <stdexcept>
#include <string>

#include "cpu/bias_activation.h"
#include "cpu/depthwise_conv.h"
#include "cpu/isa.h"
#include "cpu/light_conv.h"
#if defined(BERTKERNELS_WITH_CUDA)
#include "cuda/light_conv.h"
#endif

namespace py = pybind11;

namespace bertkernels {
namespace {

// (address, strides of all dimensions but the last): [batch,] token [, head].
Operand operand(const py::tuple& x, bool packed) {
  Operand result;
  std::size_t i = 0;
  result.data = reinterpret_cast<void*>(x[i++].cast<std::uintptr_t>());
  if (!packed) result.batch = x[i++].cast<std::int64_t>();
  result.token = x[i++].cast<std::int64_t>();
  if (i < x.size()) result.head = x[i].cast<std::int64_t>();
  return result;
}

Sequences sequences(std::int64_t batches, std::int64_t tokens, std::uintptr_t lengths, std::uintptr_t cu_seqlens) {
  return {batches, tokens, reinterpret_cast<const std::int32_t*>(lengths),
          reinterpret_cast<const std::int32_t*>(cu_seqlens)};
}

// On the CPU the contents can be read, so they are checked: the kernels index memory with them.
void check_contents(const char* op, const Sequences& s) {
  const std::string name = op;
  if (s.lengths != nullptr) {
    for (std::int64_t b = 0; b < s.batches; ++b) {
      if (s.lengths[b] < 0 || s.lengths[b] > s.tokens) {
        throw std::invalid_argument(name + ": lengths must lie in 0..T = 0.." + std::to_string(s.tokens) +
                                    ", got lengths[" + std::to_string(b) + "] = " + std::to_string(s.lengths[b]));
      }
    }
  }
  if (s.cu_seqlens != nullptr) {
    if (s.cu_seqlens[0] != 0 || s.cu_seqlens[s.batches] != s.tokens) {
      throw std::invalid_argument(name + ": cu_seqlens must run from 0 to the number of tokens " +
                                  std::to_string(s.tokens) + ", got " + std::to_string(s.cu_seqlens[0]) + ".." +
                                  std::to_string(s.cu_seqlens[s.batches]));
    }
    for (std::int64_t b = 0; b < s.batches; ++b) {
      if (s.cu_seqlens[b + 1] < s.cu_seqlens[b]) {
        throw std::invalid_argument(name + ": cu_seqlens must not decrease, got cu_seqlens[" + std::to_string(b + 1) +
                                    "] = " + std::to_string(s.cu_seqlens[b + 1]) + " after " +
                                    std::to_string(s.cu_seqlens[b]));
      }
    }
  }
}

// (B, T, H, D, K, address of lengths or 0, address of cu_seqlens or 0, softmax, causal, dtype).
LightConvShape light_conv_shape(const py::tuple& x) {
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

LightConvForward light_conv_forward_call(const py::tuple& shape, const py::tuple& values, const py::tuple& logits,
                                         const py::tuple& out) {
  LightConvForward call;
  call.shape = light_conv_shape(shape);
  const bool packed = call.shape.sequences.cu_seqlens != nullptr;
  call.values = operand(values, packed);
  call.logits = operand(logits, packed);
  call.out = operand(out, packed);
  return call;
}

LightConvBackward light_conv_backward_call(const py::tuple& shape, const py::tuple& grad, const py::tuple& values,
                                           const py::tuple& logits, const py::tuple& d_values,
                                           const py::tuple& d_logits) {
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

void require_memory(bool enough) {
  if (!enough) throw std::bad_alloc();
}

// The last argument of a CPU function is the number of threads; of a CUDA function, the stream.
void bind_light_conv(py::module_& m) {
  m.def("light_conv_forward_cpu", [](const py::tuple& shape, const py::tuple& values, const py::tuple& logits,
                                     const py::tuple& out, int threads) {
    const auto call = light_conv_forward_call(shape, values, logits, out);
    check_contents("light_conv", call.shape.sequences);
    py::gil_scoped_release release;
    require_memory(BERTKERNELS_CALL(light_conv_forward, call, threads));
  });
  m.def("light_conv_backward_cpu", [](const py::tuple& shape, const py::tuple& grad, const py::tuple& values,
                                      const py::tuple& logits, const py::tuple& d_values, const py::tuple& d_logits,
                                      int threads) {
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
  m.def("light_conv_backward_cuda", [](const py::tuple& shape, const py::tuple& grad, const py::tuple& values,
                                       const py::tuple& logits, const py::tuple& d_values, const py::tuple& d_logits,
                                       std::uintptr_t stream) {
    const auto call = light_conv_backward_call(shape, grad, values, logits, d_values, d_logits);
    py::gil_scoped_release release;
    light_conv_backward_cuda(call, stream);
  });
#endif
}

// (B, T, C, K, address of lengths or 0, address of cu_seqlens or 0, causal, dtype).
DepthwiseConvShape depthwise_conv_shape(const py::tuple& x) {
  DepthwiseConvShape shape;
  shape.sequences = sequences(x[0].cast<std::int64_t>(), x[1].cast<std::int64_t>(), x[4].cast<std::uintptr_t>(),
                              x[5].cast<std::uintptr_t>());
  shape.channels = x[2].cast<std::int64_t>();
  shape.taps = x[3].cast<std::int64_t>();
  shape.causal = x[6].cast<bool>();
  shape.dtype = static_cast<DType>(x[7].cast<int>());
  return shape;
}

DepthwiseConvForward depthwise_conv_forward_call(const py::tuple& shape, const py::tuple& x, const py::tuple& weight,
                                                 std::uintptr_t bias, const py::tuple& out) {
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
DepthwiseConvBackward depthwise_conv_backward_call(const py::tuple& shape, const py::tuple& grad, const py::tuple& x,
                                                   const py::tuple& weight, std::uintptr_t d_x,
                                                   std::uintptr_t d_weight, std::uintptr_t d_bias) {
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

void bind_depthwise_conv(py::module_& m) {
  m.def("depthwise_conv_forward_cpu", [](const py::tuple& shape, const py::tuple& x, const py::tuple& weight,
                                         std::uintptr_t bias, const py::tuple& out, int threads) {
    const auto call = depthwise_conv_forward_call(shape, x, weight, bias, out);
    check_contents("depthwise_conv", call.shape.sequences);
    py::gil_scoped_release release;
    require_memory(BERTKERNELS_CALL(depthwise_conv_forward, call, threads));
  });
  m.def("depthwise_conv_backward_cpu", [](const py::tuple& shape, const py::tuple& grad, const py::tuple& x,
                                          const py::tuple& weight, std::uintptr_t d_x, std::uintptr_t d_weight,
                                          std::uintptr_t d_bias, int threads) {
    const auto call = depthwise_conv_backward_call(shape, grad, x, weight, d_x, d_weight, d_bias);
    check_contents("depthwise_conv", call.shape.sequences);
    py::gil_scoped_release release;
    require_memory(BERTKERNELS_CALL(depthwise_conv_backward, call, threads));
  });
}

Matrix matrix(const py::tuple& x) {
  return {reinterpret_cast<void*>(x[0].cast<std::uintptr_t>()), x[1].cast<std::int64_t>()};
}

// (M, C, activation, dtype).
BiasActivationShape bias_activation_shape(const py::tuple& x) {
  BiasActivationShape shape;
  shape.rows = x[0].cast<std::int64_t>();
  shape.columns = x[1].cast<std::int64_t>();
  shape.activation = static_cast<Activation>(x[2].cast<int>());
  shape.dtype = static_cast<DType>(x[3].cast<int>());
  return shape;
}

BiasActivationForward bias_activation_forward_call(const py::tuple& shape, const py::tuple& x, std::uintptr_t bias,
                                                   const py::tuple& out) {
  return {bias_activation_shape(shape), matrix(x), reinterpret_cast<const void*>(bias), matrix(out)};
}

// Address 0 for outputs that are not wanted.
BiasActivationBackward bias_activation_backward_call(const py::tuple& shape, const py::tuple& grad, const py::tuple& x,
                                                     std::uintptr_t bias, const py::tuple& d_x,
                                                     std::uintptr_t d_bias) {
  return {bias_activation_shape(shape),         matrix(grad), matrix(x),
          reinterpret_cast<const void*>(bias), matrix(d_x),  reinterpret_cast<void*>(d_bias)};
}

void bind_bias_activation(py::module_& m) {
  m.def("bias_activation_forward_cpu",
        [](const py::tuple& shape, const py::tuple& x, std::uintptr_t bias, const py::tuple& out, int threads) {
          const auto call = bias_activation_forward_call(shape, x, bias, out);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(bias_activation_forward, call, threads));
        });
  m.def("bias_activation_backward_cpu", [](const py::tuple& shape, const py::tuple& grad, const py::tuple& x,
                                           std::uintptr_t bias, const py::tuple& d_x, std::uintptr_t d_bias,
                                           int threads) {
    const auto call = bias_activation_backward_call(shape, grad, x, bias, d_x, d_bias);
    py::gil_scoped_release release;
    require_memory(BERTKERNELS_CALL(bias_activation_backward, call, threads));
  });
}

}  // namespace
}  // namespace bertkernels

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of bertkernels.";
  m.def("active_isa", &bertkernels::active_isa_name);
#if defined(BERTKERNELS_WITH_CUDA)
  m.attr("cuda_archs") = py::make_tuple(BERTKERNELS_CUDA_ARCHS);
#else
  m.attr("cuda_archs") = py::tuple();
#endif
  bertkernels::bind_light_conv(m);
  bertkernels::bind_depthwise_conv(m);
  bertkernels::bind_bias_activation(m);
}
