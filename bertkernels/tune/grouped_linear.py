"""The kernels of `grouped_linear`, as both halves of a feed-forward layer in two groups."""

from collections.abc import Iterator

import torch

from bertkernels.bench.case import Dimensions
from bertkernels.bench.grouped_linear import GROUPS
from bertkernels.kernels import grouped_linear as kernels
from bertkernels.ops.grouped_linear import grouped_linear_backward_op, grouped_linear_op

from .subject import Call, Draw, Subject


def subjects(model: Dimensions, dtype: torch.dtype) -> Iterator[Subject]:
    narrow, wide = model.channels // GROUPS, model.intermediate // GROUPS
    for width_in, width_out, activation in ((narrow, wide, "gelu"), (wide, narrow, None)):
        yield _forward(width_in, width_out, activation, dtype)
    yield _weight_gradient(narrow, wide, dtype)


def _forward(width_in: int, width_out: int, activation: str | None, dtype: torch.dtype) -> Subject:
    def build(batch: int, tokens: int, device: torch.device) -> Call:
        draw = Draw(device, dtype)
        x, bias = draw(batch * tokens, GROUPS * width_in), draw(GROUPS * width_out)
        weight = draw(GROUPS, width_in, width_out) * width_in**-0.5
        return lambda: grouped_linear_op(x, weight, bias, activation, False, "triton")[:1]

    kernel, sizes = "grouped_linear_fwd", {"I": width_in, "O": width_out}
    return Subject(kernel, sizes, tuple(kernels.candidates(kernel, dtype, width_in, width_out)), build)


def _weight_gradient(narrow: int, wide: int, dtype: torch.dtype) -> Subject:
    def build(batch: int, tokens: int, device: torch.device) -> Call:
        draw = Draw(device, dtype)
        grad, x = draw(batch * tokens, GROUPS * wide), draw(batch * tokens, GROUPS * narrow)
        weight, no_product = draw(GROUPS, narrow, wide), x.new_empty(0)
        tensors = (grad, x, weight, None, no_product)
        return lambda: grouped_linear_backward_op(*tensors, None, [False, True, False], "triton")[1:2]

    kernel, sizes = "grouped_linear_bwd_weight", {"L": narrow, "R": wide}
    return Subject(kernel, sizes, tuple(kernels.candidates(kernel, dtype, narrow, wide)), build)
