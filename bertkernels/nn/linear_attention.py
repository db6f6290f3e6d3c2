"""Self-attention without its softmax."""

import torch
from torch import nn

from ..ops.rectangle import rectangle_of
from .attention import Attention
from .layout import ALL_TOKENS, Layout
from .linear import apply_linear


class LinearAttention(Attention):
    """Multi-head self-attention whose weights are the scaled scores themselves, over padded or packed tokens.

        context_i = Σ_j (query_i · key_j / √D) value_j        over the tokens j that may be attended

    Without dropout on the weights this is query_i · (Σ_j key_j value_jᵀ) / √D: O(T), and no map of all pairs. What a
    mask leaves out has the weight 0: of an additive mask the exponential counts, as in a softmax. (The released code
    adds -10000 to the scores of padding and leaves it there, so that padding outweighs everything.)

    Arguments and weights are those of `Attention`.

    Source: Zhao et al. 2021 (arXiv 2101.04547) and its released code.
    """

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        shape = (self.heads, self.head_size)
        x = layout.clear_padding(x)
        heads = tuple(apply_linear(layer, x).unflatten(-1, shape) for layer in (self.query, self.key, self.value))
        if layout.cu_seqlens is None:
            context = self._context(*heads, layout.key_mask(x.shape[1]))
        else:
            # zeros at padding, keys among them, are the mask
            rectangle = rectangle_of(layout.cu_seqlens, x.shape[0], layout.max_seqlen)
            context = rectangle.gather(self._context(*map(rectangle.spread, heads), None))
        return apply_linear(self.output, context.flatten(-2))

    def as_one_op(self, x: torch.Tensor, layout: Layout, norm: nn.Module, dropout: nn.Module) -> None:
        """None: there is no such op."""

    def attention_probs(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """The weights [B, H, T, T] that `forward` uses for x [B, T, C], before dropout: of any sign and sum.

        Padded form only.
        """
        if layout.cu_seqlens is not None:
            raise ValueError("attention_probs needs the padded form; unpack x first")
        shape = (self.heads, self.head_size)
        query = self.query(x).unflatten(-1, shape).transpose(1, 2)  # [B, H, T, D]
        key = self.key(x).unflatten(-1, shape).transpose(1, 2)
        return self._weights(query, key, layout.key_mask(x.shape[1]))

    def _context(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """query, key, value [B, T, H, D], a mask as `Layout` has it → [B, T, H, D]"""
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))  # [B, H, T, D]
        dropout = self.dropout if self.training else 0.0
        if dropout or (mask is not None and mask.shape[-2] != 1):
            weights = nn.functional.dropout(self._weights(query, key, mask), dropout)
            return (weights @ value).transpose(1, 2)
        if mask is not None:
            key = _masked(key, mask.transpose(-1, -2))
        return (query @ (key.transpose(-1, -2) @ value) * self.head_size**-0.5).transpose(1, 2)

    def _weights(self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        weights = query @ key.transpose(-1, -2) * self.head_size**-0.5  # [B, H, T, T]
        return weights if mask is None else _masked(weights, mask)


def _masked(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return x.masked_fill(~mask, 0) if mask.dtype == torch.bool else x * mask.exp().to(x.dtype)
