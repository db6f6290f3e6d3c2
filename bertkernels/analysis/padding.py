"""Which tokens of a forward pass are padding, and in which form the encoder keeps the others."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from bertkernels.errors import InputError
from bertkernels.hf.encoder import UnpaddedConvBertEncoder
from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import Alignment, Packing, pack_mask


class Padding:
    """That of the forward pass that runs, or ran last.

    Attributes:
        mask: bool [B, T], the real tokens; None: no mask was given.
        packing: of an encoder that leaves padding out; None: its states are [B, T, …].
    """

    def __init__(self) -> None:
        self.mask: torch.Tensor | None = None
        self.packing: Packing | Alignment | None = None

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        """x as the encoder has it, [B, T, D], packed [total, D] or [1, total, D] → [B, T, D]"""
        if isinstance(self.packing, Packing):
            return self.packing.unpack(x.flatten(0, -2)) if self._is_packed(x) else x
        return x if self.packing is None else self.packing.unpack(x)

    def as_encoder_has_it(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """y [B, T, D] in the form of x, which the encoder has."""
        if isinstance(self.packing, Packing):
            return self.packing.pack(y).view(*x.shape[:-1], -1) if self._is_packed(x) else y
        return y if self.packing is None else self.packing.pack(y)

    def _is_packed(self, x: torch.Tensor) -> bool:
        # a layer that packs by itself takes and gives padded states
        return x.shape[:-1].numel() != self.packing.batch * self.packing.tokens


@contextlib.contextmanager
def watch_padding(base: nn.Module) -> Iterator[Padding]:
    """Inside, what the masks say that the encoder is given.

    Args:
        base: the encoder with its embeddings, whose forward pass takes input_ids, attention_mask [B, T].
    """
    padding = Padding()

    def before(_, arguments: tuple, named: dict) -> None:
        mask = arguments[1] if len(arguments) > 1 else named.get("attention_mask")
        if mask is not None and mask.dim() != 2:
            raise InputError(f"attention_mask must be [B, T] to be looked at, got {list(mask.shape)}")
        padding.mask = None if mask is None else mask.bool()
        leaves_out = mask is not None and _leaves_padding_out(base)
        padding.packing = pack_mask(padding.mask) if leaves_out else None

    # first of all: another hook may give the model a mask of another form
    handle = base.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    try:
        yield padding
    finally:
        handle.remove()


def _leaves_padding_out(base: nn.Module) -> bool:
    if isinstance(base, EncoderModel):
        return base.config.padding == "exact"
    return isinstance(base.encoder, UnpaddedConvBertEncoder)
