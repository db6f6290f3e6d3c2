"""The kernels of `glu`, on the channels of a published model."""

from collections.abc import Iterator

import torch

from bertkernels.bench.case import Dimensions
from bertkernels.kernels import glu as kernels
from bertkernels.ops.glu import glu_backward_op, glu_op

from .subject import Call, Draw, Subject


def subjects(model: Dimensions, dtype: torch.dtype) -> Iterator[Subject]:
    width = model.channels

    def forward(batch: int, tokens: int, device: torch.device) -> Call:
        draw = Draw(device, dtype)
        inputs = draw(batch * tokens, width), draw(batch * tokens, width), draw(width), draw(width)
        return lambda: (glu_op(*inputs, "triton"),)

    def backward(batch: int, tokens: int, device: torch.device) -> Call:
        draw = Draw(device, dtype)
        grad, out, gate = (draw(batch * tokens, width) for _ in range(3))
        bias = draw(width)
        return lambda: glu_backward_op(grad, out, gate, bias, [True] * 4, "triton")

    for kernel, build in (("glu_fwd", forward), ("glu_bwd", backward)):
        yield Subject(kernel, {"C": width}, tuple(kernels.candidates(kernel, dtype)), build)
