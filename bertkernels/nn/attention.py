"""Self-attention as a sub-layer."""

import torch
from torch import nn

from .. import ops
from .layout import ALL_TOKENS, Layout
from .linear import apply_linear, children
from .whole_sublayer import attention_block

_LAYERS = ("query", "key", "value", "output")  # as `ops.attention_block` has them


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, §3.2) over padded or packed tokens.

    Args:
        hidden_size: C.
        heads: H.
        head_size: D; None: C / H. H·D need not be C: the output layer maps H·D back to C.
        dropout: on the attention probabilities, in training.
    """

    def __init__(self, hidden_size: int, heads: int, head_size: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.head_size = split_width(hidden_size, heads) if head_size is None else head_size
        self.dropout = dropout
        width = self.heads * self.head_size
        self.query = nn.Linear(hidden_size, width)
        self.key = nn.Linear(hidden_size, width)
        self.value = nn.Linear(hidden_size, width)
        self.output = nn.Linear(width, hidden_size)

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        shape = (self.heads, self.head_size)
        x = layout.clear_padding(x)
        context = ops.attention(
            apply_linear(self.query, x).unflatten(-1, shape),  # [B, T, H, D]
            apply_linear(self.key, x).unflatten(-1, shape),
            apply_linear(self.value, x).unflatten(-1, shape),
            attention_mask=layout.key_mask(x.shape[1]) if layout.cu_seqlens is None else None,
            dropout_p=self.dropout if self.training else 0.0,
            cu_seqlens=layout.cu_seqlens,
            max_seqlen=layout.max_seqlen,
        )
        return apply_linear(self.output, context.flatten(-2))

    def as_one_op(self, x: torch.Tensor, layout: Layout, norm: nn.Module, dropout: nn.Module) -> torch.Tensor | None:
        """norm(x + dropout(self(x))) as one op, or None where modules must be called."""
        if layout.lengths is not None or (self.training and self.dropout):
            return None
        layers, mask = children(self, *_LAYERS), layout.attention_mask if layout.cu_seqlens is None else None
        return attention_block(self, layers, self.heads, norm, dropout, x, mask, layout.cu_seqlens)

    def attention_probs(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """The attention maps [B, H, T, T] that `forward` uses for x [B, T, C], before dropout. Padded form only."""
        return attention_probs(self, x, layout)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, head_size={self.head_size}, dropout={self.dropout}"


def split_width(hidden_size: int, heads: int) -> int:
    """Head width of `heads` heads that share `hidden_size` channels."""
    if heads < 1 or hidden_size % heads:
        raise ValueError(f"hidden_size {hidden_size} must be divisible by the number of heads, {heads}")
    return hidden_size // heads


def attention_probs(module: nn.Module, x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """softmax(query · keyᵀ / √D + mask) [B, H, T, T] of a module with query, key, heads and head_size.

    Queries that may attend nothing get zeros.
    """
    if layout.cu_seqlens is not None:
        raise ValueError("attention_probs needs the padded form; unpack x first")
    shape = (module.heads, module.head_size)
    query = module.query(x).unflatten(-1, shape).transpose(1, 2)  # [B, H, T, D]
    key = module.key(x).unflatten(-1, shape).transpose(1, 2)
    scores = query @ key.transpose(-1, -2) * module.head_size**-0.5  # [B, H, T, T]
    mask = layout.key_mask(x.shape[1])
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype != torch.bool:
        return (scores + mask).softmax(-1)
    # the lowest finite number rather than -inf: where nothing may be attended the result is zeros, not NaN
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask
