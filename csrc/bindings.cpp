// The Python module bertkernels._C: plain addresses, sizes and strides in, nothing of torch. One translation unit,
// since pybind11's headers take longer to compile than all that is said here; one header an op.
#include "bindings/attention.h"
#include "bindings/bias_activation.h"
#include "bindings/blocks.h"
#include "bindings/depthwise_conv.h"
#include "bindings/dynamic_conv_block.h"
#include "bindings/expression_block.h"
#include "bindings/feed_forward_training.h"
#include "bindings/glu.h"
#include "bindings/light_conv.h"
#include "bindings/residual_norm.h"
#include "cpu/isa.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of bertkernels.";
  m.def("active_isa", &bertkernels::active_isa_name);
  m.def("is_intel", &bertkernels::is_intel);
#if defined(BERTKERNELS_WITH_CUDA)
  m.attr("cuda_archs") = pybind11::make_tuple(BERTKERNELS_CUDA_ARCHS);
#else
  m.attr("cuda_archs") = pybind11::tuple();
#endif
  bertkernels::bind_attention(m);
  bertkernels::bind_light_conv(m);
  bertkernels::bind_depthwise_conv(m);
  bertkernels::bind_bias_activation(m);
  bertkernels::bind_residual_norm(m);
  bertkernels::bind_blocks(m);
  bertkernels::bind_dynamic_conv_block(m);
  bertkernels::bind_expression_block(m);
  bertkernels::bind_feed_forward_training(m);
  bertkernels::bind_glu(m);
}
