"""The frame that every sub-layer of a post-norm encoder stands in."""

import torch
from torch import nn

from .layout import ALL_TOKENS, Layout


class PostNorm(nn.Module):
    """y = LayerNorm(x + dropout(function(x, layout))) (Vaswani et al. 2017, §3.1).

    Args:
        function: a sub-layer, called with (x, layout).
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
        return self.norm(x + self.dropout(self.function(x, layout)))
