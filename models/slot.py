"""A slot of a supernet: sub-layers of every kind, of which one runs."""

import re

import torch
from torch import nn

from bertkernels.nn import ALL_TOKENS, Layout

from .configuration import EncoderConfig
from .plan import SublayerSpec, parse_plan
from .sublayer import build_sublayer


class Slot(nn.ModuleDict):
    """Every kind of `config.supernet_kinds`, each with a LayerNorm of its own; `chosen` says which one runs.

    Weights of a kind stand under its text, by which a plan inherits them. Those that do not run get no gradient.

    Args:
        config: with supernet_kinds.
        spec: the kind that is chosen at first.
    """

    def __init__(self, config: EncoderConfig, spec: SublayerSpec):
        super().__init__()
        self.kinds = tuple(config.supernet_kinds)
        for kind in self.kinds:
            (block,) = parse_plan(kind).blocks
            self[slot_key(kind)] = build_sublayer(config, block.sublayers[0])
        self.choose(str(spec))

    def choose(self, kind: str) -> None:
        """Has this kind run from now on."""
        self.chosen = kind

    @property
    def function(self) -> nn.Module:
        """That of the chosen kind, as other sub-layers of an encoder have it."""
        return self[slot_key(self.chosen)].function

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        return self[slot_key(self.chosen)](x, layout)


def slot_key(kind: str) -> str:
    """A kind's name among a slot's modules; letters, digits and _, for transformers takes names for patterns."""
    return re.sub(r"\W+", "_", kind).strip("_")
