"""The feed-forward sub-layer, whole or grouped."""

import torch
from torch import nn

from .activation import ACTIVATIONS, FUSED_NAME, check_activation
from .grouped_linear import GroupedLinear
from .layout import ALL_TOKENS, Layout
from .linear import apply_linear, children
from .whole_sublayer import feed_forward_block


class FeedForward(nn.Module):
    """down(activation(up(x))), token by token; with a norm inside down(activation(LayerNorm(up(x)))).

    With groups > 1 both layers are block-diagonal over the same contiguous groups, with no shuffle between them
    (ConvBERT, Jiang et al. 2020, §3.3).

    Args:
        hidden_size: C. intermediate_size: width between the layers.
        groups: G, a divisor of both.
        activation: a name from `bertkernels.nn.ACTIVATIONS`.
        norm_eps: of the LayerNorm inside (Zhao et al. 2021, arXiv 2101.04547); None: there is none.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        groups: int = 1,
        activation: str = "gelu",
        norm_eps: float | None = None,
    ):
        super().__init__()
        check_activation(activation)
        self.activation = activation
        self.grouped = groups > 1
        if groups == 1:
            self.up = nn.Linear(hidden_size, intermediate_size)
            self.down = nn.Linear(intermediate_size, hidden_size)
        else:
            fused = activation if norm_eps is None else "linear"
            self.up = GroupedLinear(hidden_size, intermediate_size, groups, activation=fused)
            self.down = GroupedLinear(intermediate_size, hidden_size, groups)
        self.norm = None if norm_eps is None else nn.LayerNorm(intermediate_size, eps=norm_eps)

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x […, C] → […, C]; tokens do not see each other, so `layout` is not read."""
        if self.norm is not None:
            return apply_linear(self.down, ACTIVATIONS[self.activation](self.norm(apply_linear(self.up, x))))
        if self.grouped:
            return self.down(self.up(x))  # `up` applies the activation itself
        return apply_linear(self.down, apply_linear(self.up, x, activation=self.activation))

    def as_one_op(self, x: torch.Tensor, layout: Layout, norm: nn.Module, dropout: nn.Module) -> torch.Tensor | None:
        """norm(x + dropout(self(x))) as one op, or None where modules must be called."""
        if self.activation not in FUSED_NAME or self.norm is not None:
            return None
        up, down = children(self, "up", "down")
        return feed_forward_block(self, up, down, FUSED_NAME[self.activation], norm, dropout, x)
