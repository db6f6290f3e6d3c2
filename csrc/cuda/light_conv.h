#pragma once

#include <cstdint>

#include "../light_conv.h"

namespace bertkernels {

// Both queue their work on `stream` (a cudaStream_t) of the current device and return at once; std::runtime_error where
// it cannot be launched.
void light_conv_forward_cuda(const LightConvForward& call, std::uintptr_t stream);
void light_conv_backward_cuda(const LightConvBackward& call, std::uintptr_t stream);

}  // namespace bertkernels
