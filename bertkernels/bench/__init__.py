"""Measures ops and encoders beside their peers: `bertkernels bench`, and the pytest wrappers in `benchmarks/`."""

OPS = ("light_conv", "depthwise_conv", "grouped_linear", "encoder", "padded_batch")
