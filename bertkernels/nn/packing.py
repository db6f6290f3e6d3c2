"""From padded batches to rows of real tokens and back."""

from typing import NamedTuple

import torch

from ..ops.sequences import token_bounds
from .layout import Layout


class Packing(NamedTuple):
    """The real tokens of a padded batch. `pack` drops padding, `unpack` puts zeros back in its place."""

    rows: torch.Tensor  # int64 [total]: each packed token's row among the B·T padded ones
    layout: Layout
    batch: int
    tokens: int

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, …] → [total, …]"""
        return x.flatten(0, 1).index_select(0, self.rows)

    def unpack(self, x: torch.Tensor) -> torch.Tensor:
        """[total, …] → [B, T, …], zeros at padding"""
        padded = x.new_zeros(self.batch * self.tokens, *x.shape[1:]).index_copy(0, self.rows, x)
        return padded.unflatten(0, (self.batch, self.tokens))

    def positions(self) -> torch.Tensor:
        """int64 [total]: each packed token's place in its own sequence"""
        place, start, _ = token_bounds(1, self.rows.shape[0], None, self.layout.cu_seqlens, self.rows.device)
        return place - start


def pack_mask(mask: torch.Tensor) -> Packing | None:
    """The packing that a bool mask [B, T] (True: real token) asks for; None where every token is real.

    Any pattern will do: left padding, holes, rows without a token. Waits for the device once, to learn the sizes.
    """
    batch, tokens = mask.shape
    lengths = mask.sum(1, dtype=torch.int32)  # [B]
    counts = lengths.tolist()
    if sum(counts) == batch * tokens:
        return None
    cu_seqlens = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))  # [B + 1]
    rows = mask.flatten().nonzero().squeeze(1)
    return Packing(rows, Layout(cu_seqlens=cu_seqlens, max_seqlen=max(counts)), batch, tokens)
