"""Block-diagonal linear layer as a module."""

import math

import torch
from torch import nn

from .. import ops
from .activation import FUSED_NAME, check_activation


class GroupedLinear(nn.Module):
    """A linear layer whose input and output channels are split into G contiguous groups that do not mix.

    Weights are [G, I, O] (input before output, unlike `nn.Linear`), as ConvBERT's released checkpoints store them.

    Args:
        in_features: G·I. out_features: G·O.
        groups: G, a divisor of both.
        bias: adds a learned bias [G·O].
        activation: applied to the output in the same op; a name from `bertkernels.nn.ACTIVATIONS`.
    """

    def __init__(self, in_features: int, out_features: int, groups: int, bias: bool = True, activation: str = "linear"):
        super().__init__()
        if groups < 1 or in_features % groups or out_features % groups:
            raise ValueError(f"groups must divide in_features {in_features} and out_features {out_features}: {groups}")
        check_activation(activation)
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(groups, in_features // groups, out_features // groups))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `nn.Linear` of one group: uniform within ±1/√I."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x […, G·I] → […, G·O]."""
        return ops.grouped_linear(x, self.weight, self.bias, activation=FUSED_NAME[self.activation])

    def extra_repr(self) -> str:
        groups, width_in, width_out = self.weight.shape
        shape = f"{groups * width_in}, {groups * width_out}, groups={groups}"
        return f"{shape}, bias={self.bias is not None}, activation={self.activation}"
