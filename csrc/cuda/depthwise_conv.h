#pragma once

#include <cstdint>

#include "../depthwise_conv.h"

namespace bertkernels {

// Both queue their work on `stream` (a cudaStream_t) of the current device and return at once; std::runtime_error where
// it cannot be launched. `sums` is memory for depthwise_conv_sums_cuda() numbers of the type that sums are kept in
// (double for fp64, else float), on the device; it is not used where only the gradient of x is wanted.
void depthwise_conv_forward_cuda(const DepthwiseConvForward& call, std::uintptr_t stream);
void depthwise_conv_backward_cuda(const DepthwiseConvBackward& call, void* sums, std::uintptr_t stream);
std::int64_t depthwise_conv_sums_cuda(const DepthwiseConvShape& shape);

}  // namespace bertkernels
