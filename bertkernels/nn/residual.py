"""The frame that every sub-layer of a post-norm encoder stands in."""

import torch
from torch import nn

from .. import ops
from ..ops import dispatch
from .layout import ALL_TOKENS, Layout
from .linear import calls_alone, children
from .whole_sublayer import is_plain_norm


class PostNorm(nn.Module):
    """y = LayerNorm(x + dropout(function(x, layout))) (Vaswani et al. 2017, §3.1).

    Args:
        function: a sub-layer, called with (x, layout). If it has as_one_op(x, layout, norm, dropout), that may
            return what the whole frame returns, or None.
        hidden_size: C.
        dropout: on the sub-layer's output, in training.
        eps: of the LayerNorm; BERT's 1e-12.
    """

    def __init__(self, function: nn.Module, hidden_size: int, dropout: float = 0.0, eps: float = 1e-12):
        super().__init__()
        self.function = function
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden_size, eps=eps)

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        function, dropout, norm = children(self, "function", "dropout", "norm")
        if hasattr(function, "as_one_op") and calls_alone(function):
            out = function.as_one_op(x, layout, norm, dropout)
            if out is not None:
                return out
        return apply_residual_norm(norm, dropout, function(x, layout), x)


def apply_residual_norm(norm: nn.Module, dropout: nn.Module, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """norm(residual + dropout(x)); one op on the CPU where plain modules without hooks do just that.

    Args:
        norm: a LayerNorm over C. dropout: a Dropout.
        x, residual: […, C].
    """
    # without the compiled op torch's own are faster
    compiled = x.device.type == "cpu" and dispatch.resolve("residual_norm", "cpu", "") == "cpu"
    # under autocast norms keep the dtype that the sum has, as torch's on the CPU do, and the op would not
    if compiled and not torch.is_autocast_enabled("cpu") and x.dtype == residual.dtype and _fused(norm, dropout):
        p = dropout.p if dropout.training else 0.0
        return ops.residual_norm(x, residual, norm.weight, norm.bias, eps=norm.eps, dropout_p=p)
    return norm(dropout(x) + residual)


def _fused(norm: nn.Module, dropout: nn.Module) -> bool:
    return is_plain_norm(norm) and type(dropout) is nn.Dropout and dropout.p < 1 and calls_alone(dropout)
