"""The kernels of `span_conv`, on the span convolution of a published model."""

from collections.abc import Iterator

import torch

from bertkernels.bench.case import Dimensions
from bertkernels.kernels import span_conv as kernels
from bertkernels.ops.span_conv import launch_backward, span_conv_op

from .subject import Call, Draw, Subject


def subjects(model: Dimensions, dtype: torch.dtype) -> Iterator[Subject]:
    C, H, D, K = model.channels, model.heads, model.head_width, model.taps

    def forward(batch: int, tokens: int, device: torch.device) -> Call:
        """With what training keeps."""
        draw, rows = Draw(device, dtype), (batch, tokens)
        x, query, values = draw(*rows, C), draw(*rows, H, D), draw(*rows, H, D)
        weights = (draw(C, K), draw(H * D, C) * C**-0.5, draw(H * D), draw(H * K, H * D) * (H * D) ** -0.5, draw(H * K))
        return lambda: span_conv_op(x, query, values, *weights, None, None, True, "triton")

    def backward(batch: int, tokens: int, device: torch.device) -> Call:
        """What follows from the gradient of the logits alone; the rest is other ops' kernels."""
        draw, rows = Draw(device, dtype), (batch, tokens)
        d_logits, product, query = draw(*rows, H, K), draw(*rows, H * D), draw(*rows, H, D)
        tensors = (d_logits, product, query, draw(H * K, H * D) * (H * D) ** -0.5)
        return lambda: launch_backward.functions["triton"](*tensors, None, [True] * 3)

    widths = {"H": H, "D": D, "K": K}
    yield Subject("span_conv_bwd", widths, tuple(kernels.backward_candidates(dtype, **widths)), backward)
    widths = {"C": C, **widths, "S": K}
    yield Subject("span_conv_fwd", widths, tuple(kernels.forward_candidates(dtype, **widths)), forward)
