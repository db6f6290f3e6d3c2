"""Packed sequences laid out as a padded batch and back, for what takes its tokens in a rectangle only."""

from typing import NamedTuple

import torch


class Rectangle(NamedTuple):
    """Where packed tokens lie in a padded batch: `spread` lays them out, `gather` collects them again."""

    rows: torch.Tensor  # int64 [total]: each token's row among the B·T padded ones
    lengths: torch.Tensor  # int32 [B]
    longest: int  # T

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """[total, …] → [B, T, …], zeros at padding"""
        padded = x.new_zeros(self.lengths.shape[0] * self.longest, *x.shape[1:]).index_copy(0, self.rows, x)
        return padded.view(self.lengths.shape[0], self.longest, *x.shape[1:])

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, …] → [total, …]"""
        return x.flatten(0, 1).index_select(0, self.rows)


def rectangle_of(cu_seqlens: torch.Tensor, tokens: int, longest: int | None = None) -> Rectangle:
    """The rectangle of sequences of which the longest has `longest` tokens; waits for the device if that is None."""
    lengths = cu_seqlens.diff()  # [B]
    if longest is None:
        longest = int(lengths.max())
    position = torch.arange(tokens, device=cu_seqlens.device)  # [total]
    sequence = torch.searchsorted(cu_seqlens[1:].contiguous(), position, right=True, out_int32=True)  # [total]
    return Rectangle(position + (sequence * longest - cu_seqlens[sequence]), lengths, longest)
