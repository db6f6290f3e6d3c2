"""What passes a model's sites in a forward pass."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from .padding import watch_padding
from .sublayers import Site
from .taps import Tap

Place = tuple[int, str]  # number of a block, name of a site
Pair = tuple[torch.Tensor, torch.Tensor]  # x [B, T, Dx], y [B, T, Dy]


@contextlib.contextmanager
def capture_sites(base: nn.Module, wanted: Mapping[Place, Site]) -> Iterator[dict[Place, Pair]]:
    """See `LayeredModel.capture`.

    Args:
        base: the encoder with its embeddings.
    """
    captured: dict[Place, Pair] = {}
    passed: dict[Tap, torch.Tensor] = {}

    def keep(tap: Tap):
        def store(x: torch.Tensor) -> None:
            passed[tap] = x

        return store

    with watch_padding(base) as padding, contextlib.ExitStack() as hooks:

        def after(*_) -> None:
            for place, site in wanted.items():
                if site.end in passed:  # it may stand in a block that does not run
                    captured[place] = tuple(padding.padded(passed[tap]) for tap in (site.start, site.end))
            passed.clear()

        for tap in {tap for site in wanted.values() for tap in (site.start, site.end)}:
            hooks.callback(tap.hook(keep(tap)).remove)
        hooks.callback(base.register_forward_hook(after).remove)
        yield captured
