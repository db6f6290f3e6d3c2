// The Python module bertkernels._C: plain addresses, sizes and strides in, nothing of torch.
#include <pybind11/pybind11.h>

#include <new>
#include <stdexcept>
#include <string>

#include "cpu/isa.h"
#include "cpu/light_conv.h"

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
}
