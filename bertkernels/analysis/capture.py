"""What passes a model's sites in a forward pass."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from bertkernels.hf.encoder import UnpaddedConvBertEncoder
from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import Packing, pack_mask

from .sublayers import Site
from .taps import Tap

Place = tuple[int, str]  # number of a block, name of a site
Pair = tuple[torch.Tensor, torch.Tensor]  # x [B, T, Dx], y [B, T, Dy]


@contextlib.contextmanager
def capture_sites(base: nn.Module, wanted: Mapping[Place, Site]) -> Iterator[dict[Place, Pair]]:
    """See `LayeredModel.capture`.

    Args:
        base: the encoder with its embeddings, whose forward pass takes input_ids, attention_mask.
    """
    captured: dict[Place, Pair] = {}
    passed: dict[Tap, torch.Tensor] = {}
    packing: list[Packing | None] = [None]

    def before(_, arguments: tuple, named: dict) -> None:
        mask = arguments[1] if len(arguments) > 1 else named.get("attention_mask")
        packs = mask is not None and _leaves_padding_out(base)
        packing[0] = pack_mask(mask.bool()) if packs else None

    def after(*_) -> None:
        for place, site in wanted.items():
            if site.end in passed:  # it may stand in a block that does not run
                captured[place] = tuple(_padded(passed[tap], packing[0]) for tap in (site.start, site.end))
        passed.clear()

    def keep(tap: Tap):
        def store(x: torch.Tensor) -> None:
            passed[tap] = x

        return store

    with contextlib.ExitStack() as hooks:
        # first of all: another hook may give the model a mask of another form
        handles = [base.register_forward_pre_hook(before, with_kwargs=True, prepend=True)]
        handles += [tap.hook(keep(tap)) for tap in {tap for site in wanted.values() for tap in (site.start, site.end)}]
        handles.append(base.register_forward_hook(after))
        for handle in handles:
            hooks.callback(handle.remove)
        yield captured


def _leaves_padding_out(base: nn.Module) -> bool:
    if isinstance(base, EncoderModel):
        return base.config.padding == "exact"
    return isinstance(base.encoder, UnpaddedConvBertEncoder)


def _padded(x: torch.Tensor, packing: Packing | None) -> torch.Tensor:
    """x as the encoder had it: [B, T, D], packed [total, D] or [1, total, D] → [B, T, D]"""
    if isinstance(packing, Packing):
        if x.shape[:-1].numel() == packing.batch * packing.tokens:
            return x  # a layer that packs by itself
        return packing.unpack(x.flatten(0, -2))
    return x if packing is None else packing.unpack(x)
