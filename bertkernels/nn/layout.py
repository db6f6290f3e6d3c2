"""Where the real tokens of a batch are: one description that every sub-layer reads."""

from typing import NamedTuple

import torch


class Layout(NamedTuple):
    """Tells a sub-layer which rows of its input belong together and which are padding.

    Padded form, x [B, T, C]:
        attention_mask: bool (True: may be attended) or additive float, broadcastable to [B, H, T, T]. Only attention
            reads it: alone, it lets padding take part in convolutions, as in the released ConvBERT and LV-BERT code.
        lengths: int32 [B]. Tokens past the length are padding that nothing reads, whatever it holds: zeros to
            convolutions, and (where there is no attention_mask) masked in attention.
    Packed form, x [total, C]:
        cu_seqlens: int32 [B + 1]; sequence b is rows cu_seqlens[b] to cu_seqlens[b + 1] - 1.
        max_seqlen: length of the longest sequence.

    A named tuple, so that checkpointing, compilers and device hooks see the tensors inside.
    """

    attention_mask: torch.Tensor | None = None
    lengths: torch.Tensor | None = None
    cu_seqlens: torch.Tensor | None = None
    max_seqlen: int | None = None

    def key_mask(self, tokens: int) -> torch.Tensor | None:
        """The mask over keys for `tokens` padded positions: attention_mask, or bool [B, 1, 1, T] made of lengths."""
        if self.attention_mask is not None or self.lengths is None:
            return self.attention_mask
        return self._real(tokens)[:, None, None, :]

    def clear_padding(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, …] with zeros past the lengths: masked keys have weight 0, but 0 · NaN would still be NaN."""
        if self.lengths is None:
            return x
        real = self._real(x.shape[1])  # [B, T]
        return x.masked_fill(~real.view(*real.shape, *(1,) * (x.dim() - 2)), 0)

    def _real(self, tokens: int) -> torch.Tensor:
        return torch.arange(tokens, device=self.lengths.device) < self.lengths[:, None]  # [B, T]


ALL_TOKENS = Layout()  # padded form without padding
