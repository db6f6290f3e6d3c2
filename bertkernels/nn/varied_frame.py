"""The frame of a sub-layer that differs from a post-norm encoder's: in its residual connection, norm or output."""

import torch
from torch import nn

from .activation import ACTIVATIONS, check_activation
from .layout import ALL_TOKENS, Layout
from .residual import apply_residual_norm
from .weighted_residual import build_residual

NORMS = ("sum", "output", "none")


class VariedFrame(nn.Module):
    """y = norm(residual(x) + dropout(activation(function(x, layout)))), or with the norm elsewhere.

    Modules are called one by one: none of this has an op of its own.

    Args:
        function: a sub-layer, called with (x, layout).
        hidden_size: C.
        dropout: on the sub-layer's output, in training.
        eps: of the LayerNorm.
        residual: "plain": x; "gated", "weighted", "scaled": x with a trained weight, see
            `bertkernels.nn.weighted_residual`; "none": nothing of x.
        norm: "sum": over the sum, as above. "output": over the sub-layer's output, before its dropout; the sum is left
            as it is. "none": there is none here (a `FeedForward` may have one inside).
        activation: of the sub-layer's output, a name from `bertkernels.nn.ACTIVATIONS`; None: as it is.

    Source: Zhao et al. 2021 (arXiv 2101.04547) and its released code.
    """

    def __init__(
        self,
        function: nn.Module,
        hidden_size: int,
        dropout: float = 0.0,
        eps: float = 1e-12,
        residual: str = "plain",
        norm: str = "sum",
        activation: str | None = None,
    ):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
        if activation is not None:
            check_activation(activation)
        self.function = function
        self.dropout = nn.Dropout(dropout)
        self.residual = build_residual(residual, hidden_size)
        self.norm = None if norm == "none" else nn.LayerNorm(hidden_size, eps=eps)
        self.norm_at = norm
        self.activation = activation

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        out = self.function(x, layout)
        if self.activation is not None:
            out = ACTIVATIONS[self.activation](out)
        residual = self.residual(x)
        if self.norm_at == "sum":
            return apply_residual_norm(self.norm, self.dropout, out, residual)
        if self.norm_at == "output":
            out = self.norm(out)
        return residual + self.dropout(out)

    def extra_repr(self) -> str:
        return f"norm={self.norm_at!r}, activation={self.activation!r}"
