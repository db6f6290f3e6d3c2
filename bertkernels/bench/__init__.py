"""Measures ops and encoders beside their peers: `bertkernels bench`, and the pytest wrappers in `benchmarks/`."""

OPS = (
    "light_conv",
    "depthwise_conv",
    "span_conv",
    "mixed_attention",
    "linear",
    "grouped_linear",
    "residual_norm",
    "dynamic_conv",
    "encoder",
    "padded_batch",
)
ENCODERS = ("encoder", "padded_batch")
