"""`linear` as the wide half of a feed-forward layer, with bias and GELU, beside torch's layer and its GELU."""

import torch

from bertkernels import ops

from .case import Case, dimensions
from .matrix_products import Operands
from .op_bench import HUGGING_FACE, OpBench, Shape


def dense_gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`torch.nn.Linear`, then GELU, as Hugging Face's feed-forward layers: [M, I] → [M, O]."""
    return torch.nn.functional.gelu(torch.nn.functional.linear(x, weight, bias))


def operands(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> list[Operands]:
    """[M, I] by the weight as it lies."""
    return [(x, weight.mT)]


def shapes(case: Case) -> tuple[list[Shape], Shape]:
    """x [M, I], weight [O, I] and bias [O] → [M, O], M = B·T."""
    size = dimensions(case.size)
    rows = case.batch * case.tokens
    return [(rows, size.channels), (size.intermediate, size.channels), (size.intermediate,)], (rows, size.intermediate)


def deviations(case: Case) -> tuple[float, ...]:
    """Sums of the size that they have in a model: far out in GELU's tail, gradients are too small for normal numbers,
    which slows products."""
    return 1.0, dimensions(case.size).channels ** -0.5


def _ours(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, impl: str) -> torch.Tensor:
    return ops.linear(x, weight, bias, activation="gelu", impl=impl)


BENCH = OpBench("linear", shapes, _ours, {HUGGING_FACE: dense_gelu}, operands=operands, deviations=deviations)
