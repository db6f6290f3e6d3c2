"""`grouped_linear` as the wide half of a feed-forward layer in two groups, with GELU, beside Hugging Face's way."""

import torch

from bertkernels import ops

from .case import Case, dimensions
from .matrix_products import Operands
from .op_bench import HUGGING_FACE, OpBench, Shape

GROUPS = 2  # ConvBERT-medium-small's; the other sizes have whole layers, measured in groups all the same


def permute_chain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Permute, multiply, permute back, copy into place, add the bias, apply GELU: [M, G·I] → [M, G·O]."""
    groups, width_in, width_out = weight.shape
    product = x.reshape(-1, groups, width_in).permute(1, 0, 2) @ weight  # [G, M, O]
    return torch.nn.functional.gelu(product.permute(1, 0, 2).reshape(-1, groups * width_out) + bias)


def baddbmm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """One batched product that adds the bias and writes where the channels lie, then GELU in place.

    Where gradients are asked for, autograd does not let the product write into a given place: it is copied there.
    """
    groups, _, width_out = weight.shape
    rows, bias = _groups(x, groups), bias.view(groups, 1, width_out)
    if x.requires_grad:
        product = torch.baddbmm(bias, rows, weight).transpose(0, 1)  # [M, G, O]
        return torch.nn.functional.gelu(product.reshape(len(x), groups * width_out))
    out = x.new_empty(len(x), groups * width_out)
    torch.baddbmm(bias, rows, weight, out=_groups(out, groups))
    return torch.ops.aten.gelu_(out)


def operands(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> list[Operands]:
    """The groups' rows [G, M, I], where they lie, and their weights [G, I, O]."""
    return [(_groups(x, len(weight)), weight)]


def _groups(x: torch.Tensor, groups: int) -> torch.Tensor:
    """[M, G·W] as the batch of matrices [G, M, W], a view."""
    return x.unflatten(1, (groups, -1)).transpose(0, 1)


def shapes(case: Case) -> tuple[list[Shape], Shape]:
    """x [M, G·I], weight [G, I, O] and bias [G·O] → [M, G·O], M = B·T."""
    size = dimensions(case.size)
    rows = case.batch * case.tokens
    weight = (GROUPS, size.channels // GROUPS, size.intermediate // GROUPS)
    return [(rows, size.channels), weight, (size.intermediate,)], (rows, size.intermediate)


def deviations(case: Case) -> tuple[float, ...]:
    """As for `linear`: sums of the size that they have in a model."""
    return 1.0, (dimensions(case.size).channels // GROUPS) ** -0.5


def _ours(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, impl: str) -> torch.Tensor:
    return ops.grouped_linear(x, weight, bias, activation="gelu", impl=impl)


BENCH = OpBench(
    "grouped_linear",
    shapes,
    _ours,
    {HUGGING_FACE: permute_chain, "baddbmm": baddbmm},
    operands=operands,
    deviations=deviations,
)
