// csrc/cuda/light_conv.cu as C++ for the CPU, with plain C functions to call it by.
#include "cuda/light_conv.cu"

#include <string>

namespace {

std::string message;

bertkernels::Operand operand(const std::int64_t* x) {
  return {reinterpret_cast<void*>(x[0]), x[1], x[2], x[3]};
}

bertkernels::LightConvShape shape(const std::int64_t* x) {
  bertkernels::LightConvShape result;
  result.sequences = {x[0], x[1], reinterpret_cast<const std::int32_t*>(x[5]),
                      reinterpret_cast<const std::int32_t*>(x[6])};
  result.heads = x[2];
  result.width = x[3];
  result.taps = x[4];
  result.softmax = x[7] != 0;
  result.causal = x[8] != 0;
  result.dtype = static_cast<bertkernels::DType>(x[9]);
  return result;
}

template <typename Run>
const char* outcome(Run run) {
  emulation::fault.clear();
  message.clear();
  try {
    run();
    message = emulation::fault;
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}

}  // namespace

// Both return "" or what went wrong.
extern "C" const char* forward(const std::int64_t* sizes, const std::int64_t* values, const std::int64_t* logits,
                               const std::int64_t* out) {
  return outcome(
      [=] { bertkernels::light_conv_forward_cuda({shape(sizes), operand(values), operand(logits), operand(out)}, 0); });
}

extern "C" const char* backward(const std::int64_t* sizes, const std::int64_t* grad, const std::int64_t* values,
                                const std::int64_t* logits, const std::int64_t* d_values,
                                const std::int64_t* d_logits) {
  return outcome([=] {
    bertkernels::light_conv_backward_cuda({shape(sizes), operand(grad), operand(values), operand(logits),
                                           operand(d_values), operand(d_logits)},
                                          0);
  });
}

extern "C" void run_backwards(int yes) { emulation::reversed = yes != 0; }
extern "C" void fail_next_launch() { emulation::next_launch = cudaErrorInvalidConfiguration; }
