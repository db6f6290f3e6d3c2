"""`bertkernels tune`: times launch configurations of the Triton kernels on this GPU and keeps the ones that win.

A module an op says which of its kernels have configurations, and how to call them.
"""

OPS = (
    "light_conv",
    "depthwise_conv",
    "span_conv",
    "mixed_attention",
    "grouped_linear",
    "bias_activation",
    "glu",
    "residual_norm",
)
