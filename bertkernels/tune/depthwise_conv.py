"""The kernels of `depthwise_conv`, on the channels of a published model."""

from collections.abc import Iterator

import torch

from bertkernels.bench.case import Dimensions
from bertkernels.kernels import depthwise_conv as kernels
from bertkernels.ops.depthwise_conv import depthwise_conv_backward_op, depthwise_conv_op

from .subject import Call, Draw, Subject


def subjects(model: Dimensions, dtype: torch.dtype) -> Iterator[Subject]:
    options = (None, None, False)  # neither lengths nor cu_seqlens; not causal

    def forward(batch: int, tokens: int, device: torch.device) -> Call:
        draw = Draw(device, dtype)
        inputs = draw(batch, tokens, model.channels), draw(model.channels, model.taps)
        return lambda: (depthwise_conv_op(*inputs, None, *options, "triton"),)

    def backward(batch: int, tokens: int, device: torch.device) -> Call:
        draw, shape = Draw(device, dtype), (batch, tokens, model.channels)
        inputs = draw(*shape), draw(*shape), draw(model.channels, model.taps)
        return lambda: depthwise_conv_backward_op(*inputs, *options, [True] * 3, "triton")

    sizes = {"C": model.channels, "K": model.taps}
    for kernel, build in (("depthwise_conv_fwd", forward), ("depthwise_conv_bwd", backward)):
        yield Subject(kernel, sizes, tuple(kernels.candidates(kernel, dtype, **sizes)), build)
