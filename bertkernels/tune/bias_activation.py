"""The kernels of `bias_activation`, on the wide half of a published model's feed-forward layer, with GELU."""

from collections.abc import Iterator

import torch

from bertkernels.bench.case import Dimensions
from bertkernels.kernels import bias_activation as kernels
from bertkernels.ops.bias_activation import bias_activation_backward_op, bias_activation_op

from .subject import Call, Draw, Subject


def subjects(model: Dimensions, dtype: torch.dtype) -> Iterator[Subject]:
    width = model.intermediate

    def forward(batch: int, tokens: int, device: torch.device) -> Call:
        draw = Draw(device, dtype)
        inputs = draw(batch * tokens, width), draw(width)
        return lambda: (bias_activation_op(*inputs, "gelu", "triton"),)

    def backward(batch: int, tokens: int, device: torch.device) -> Call:
        draw = Draw(device, dtype)
        inputs = draw(batch * tokens, width), draw(batch * tokens, width), draw(width)
        return lambda: bias_activation_backward_op(*inputs, "gelu", [True, True], "triton")

    for kernel, build in (("bias_activation_fwd", forward), ("bias_activation_bwd", backward)):
        yield Subject(kernel, {"C": width}, tuple(kernels.candidates(kernel, dtype, width)), build)
