"""From padded batches to real tokens alone and back."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch

from ..ops.sequences import token_bounds
from .layout import Layout

_static_shapes = False


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


class Alignment(NamedTuple):
    """A `Packing` whose shapes are the batch's: `pack` moves real tokens to the front of their row, zeros follow."""

    rows: torch.Tensor  # int64 [B·T]: the padded row that each slot takes
    slots: torch.Tensor  # int64 [B·T]: the slot that takes each padded row
    mask: torch.Tensor  # bool [B, T]: real tokens
    layout: Layout

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, …] → [B, T, …]"""
        moved = x.flatten(0, 1).index_select(0, self.rows).view(x.shape)
        return self.layout.clear_padding(moved)

    def unpack(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, …] → [B, T, …], zeros at padding"""
        moved = x.flatten(0, 1).index_select(0, self.slots).view(x.shape)
        return moved.masked_fill(~self.mask.view(*self.mask.shape, *(1,) * (x.dim() - 2)), 0)


def pack_mask(mask: torch.Tensor) -> Packing | Alignment | None:
    """The packing that a bool mask [B, T] (True: real token) asks for; None where every token is real.

    Any pattern will do: left padding, holes, rows without a token. Waits for the device once, to learn the sizes; not
    where shapes are to be static, which makes it an `Alignment` whatever the mask.
    """
    if shapes_are_static():
        return align_mask(mask)
    batch, tokens = mask.shape
    lengths = mask.sum(1, dtype=torch.int32)  # [B]
    counts = lengths.tolist()
    if sum(counts) == batch * tokens:
        return None
    cu_seqlens = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))  # [B + 1]
    rows = mask.flatten().nonzero().squeeze(1)
    return Packing(rows, Layout(cu_seqlens=cu_seqlens, max_seqlen=max(counts)), batch, tokens)


def align_mask(mask: torch.Tensor) -> Alignment:
    """The alignment of a bool mask [B, T]. A permutation of each row, so that gradients too are moved, not added up."""
    batch, tokens = mask.shape
    lengths = mask.sum(1)  # [B]
    before, padding_before = mask.cumsum(1) - 1, (~mask).cumsum(1) - 1
    slots = torch.where(mask, before, lengths[:, None] + padding_before)  # [B, T]
    place = torch.arange(tokens, device=mask.device).expand(batch, tokens)
    rows = torch.zeros_like(slots).scatter(1, slots, place)  # [B, T]
    start = torch.arange(batch, device=mask.device)[:, None] * tokens
    layout = Layout(lengths=lengths.to(torch.int32))
    return Alignment((rows + start).flatten(), (slots + start).flatten(), mask, layout)


@contextlib.contextmanager
def static_shapes() -> Iterator[None]:
    """Inside, for the whole process, no tensor's shape and no branch depends on the contents of another.

    Models that leave padding out (`padding="exact"`, `patch(model, unpad=True)`) then run on [B, T] with lengths in
    place of the real tokens alone: the same results, and padding is computed again. It is what CUDA graphs and
    `torch.compile(fullgraph=True)` need. `torch.export` has it without asking.
    """
    global _static_shapes
    before, _static_shapes = _static_shapes, True
    try:
        yield
    finally:
        _static_shapes = before


def shapes_are_static() -> bool:
    return _static_shapes or torch.compiler.is_exporting()
