"""Residual connections with a weight, or without one: what of its input a sub-layer's output is added to."""

from collections.abc import Callable

import torch
from torch import nn


class WeightedResidual(nn.Module):
    """w · x with a weight w of each token's own, w = sigmoid(linear(x)) (Zhao et al. 2021, arXiv 2101.04547).

    Args:
        hidden_size: C.
        sigmoid: False: w = linear(x).
    """

    def __init__(self, hidden_size: int, sigmoid: bool = True):
        super().__init__()
        self.weight = nn.Linear(hidden_size, 1)
        self.sigmoid = sigmoid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x […, C] → […, C]"""
        weight = self.weight(x)  # […, 1]
        return x * (weight.sigmoid() if self.sigmoid else weight)

    def extra_repr(self) -> str:
        return f"sigmoid={self.sigmoid}"


class ScaledResidual(nn.Module):
    """scale · x with one trained number for all tokens, which begins as an ordinary residual connection."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([scale]))  # one axis: FSDP takes no parameters without

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x […, C] → […, C]"""
        return x * self.scale


class NoResidual(nn.Module):
    """Nothing of x, whatever it holds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x […, C] → zeros […, C]"""
        return torch.zeros_like(x)


# "plain" is x itself
RESIDUALS: dict[str, Callable[[int], nn.Module]] = {
    "plain": lambda hidden_size: nn.Identity(),
    "gated": lambda hidden_size: WeightedResidual(hidden_size),
    "weighted": lambda hidden_size: WeightedResidual(hidden_size, sigmoid=False),
    "scaled": lambda hidden_size: ScaledResidual(),
    "none": lambda hidden_size: NoResidual(),
}


def build_residual(name: str, hidden_size: int) -> nn.Module:
    """The residual connection of this name in `RESIDUALS`; ValueError where there is none."""
    if name not in RESIDUALS:
        raise ValueError(f"residual must be one of {', '.join(RESIDUALS)}, got {name!r}")
    return RESIDUALS[name](hidden_size)
