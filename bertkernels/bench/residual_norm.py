"""`residual_norm` beside torch's dropout, addition and LayerNorm, as Hugging Face's models have them."""

import torch

from bertkernels import ops

from .case import Case, dimensions
from .op_bench import HUGGING_FACE, OpBench, Shape

EPS = 1e-12
DROPOUT = 0.1  # the published models', in training


def dropout_add_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, dropout_p: float = 0.0
) -> torch.Tensor:
    """What ends each half of a Hugging Face layer: [M, C] → [M, C]."""
    total = torch.nn.functional.dropout(x, dropout_p) + residual
    return torch.nn.functional.layer_norm(total, weight.shape, weight, bias, EPS)


def shapes(case: Case) -> tuple[list[Shape], Shape]:
    """x and residual [M, C], weight and bias [C] → [M, C], M = B·T."""
    channels = dimensions(case.size).channels
    rows = (case.batch * case.tokens, channels)
    return [rows, rows, (channels,), (channels,)], rows


def _ours(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, impl: str, dropout_p: float = 0.0
) -> torch.Tensor:
    return ops.residual_norm(x, residual, weight, bias, eps=EPS, dropout_p=dropout_p, impl=impl)


BENCH = OpBench("residual_norm", shapes, _ours, {HUGGING_FACE: dropout_add_norm}, dropout_p=DROPOUT)
