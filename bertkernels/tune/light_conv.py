"""The kernels of `light_conv`, on the convolution heads of a published model."""

from collections.abc import Iterator

import torch

from bertkernels.bench.case import Dimensions
from bertkernels.kernels import light_conv as kernels
from bertkernels.ops.light_conv import light_conv_backward_op, light_conv_op

from .subject import Call, Draw, Subject


def subjects(model: Dimensions, dtype: torch.dtype) -> Iterator[Subject]:
    options = (None, None, True, False)  # neither lengths nor cu_seqlens; softmax; not causal

    def forward(batch: int, tokens: int, device: torch.device) -> Call:
        draw, rows = Draw(device, dtype), (batch, tokens, model.heads)
        inputs = draw(*rows, model.head_width), draw(*rows, model.taps)
        return lambda: (light_conv_op(*inputs, *options, "triton"),)

    def backward(batch: int, tokens: int, device: torch.device) -> Call:
        draw, rows = Draw(device, dtype), (batch, tokens, model.heads)
        inputs = draw(*rows, model.head_width), draw(*rows, model.head_width), draw(*rows, model.taps)
        return lambda: light_conv_backward_op(*inputs, *options, "triton")

    sizes = {"D": model.head_width, "K": model.taps}
    for kernel, build in (("light_conv_fwd", forward), ("light_conv_bwd", backward)):
        yield Subject(kernel, sizes, tuple(kernels.candidates(kernel, dtype, **sizes)), build)
