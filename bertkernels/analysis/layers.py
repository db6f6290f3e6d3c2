"""One view of every encoder, as blocks with sites inside them: `adapt`.

Blocks are counted from 0 as the model has them; their numbers mean their weights, wherever surgery lets them run. In an
LV-BERT, whose plan is an order of single sub-layers, each of these is a block.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from transformers import BertModel, ConvBertModel, ElectraModel

from bertkernels.errors import InputError
from bertkernels.models.encoder import EncoderModel

from .capture import Pair, Place, capture_sites
from .layers_huggingface import huggingface_sublayers
from .layers_ours import our_sublayers, runs_as_one
from .sublayers import Heads, Site, Sublayer
from .taps import INPUT, OUTPUT, Tap

ADDED = "surgery"  # name of what surgery adds to a model's modules
_SUPPORTED = (EncoderModel, BertModel, ElectraModel, ConvBertModel)


class Reordered(nn.ModuleList):
    """Blocks in another order than the model's own, which `before` keeps."""

    def __init__(self, blocks: Iterable[nn.Module], before: nn.ModuleList):
        super().__init__(blocks)
        self.before = list(before)  # a plain list: not registered


@dataclass(frozen=True)
class Row:
    """A list of blocks that run one after the other: owner.name."""

    owner: nn.Module
    name: str

    @property
    def blocks(self) -> nn.ModuleList:
        return getattr(self.owner, self.name)


class LayeredModel:
    """An encoder, with whatever head, as blocks.

    Attributes:
        model: what was given to `adapt`.
        base: the encoder with its embeddings, which takes input_ids and attention_mask.
        encoder: the module that takes the first block's input first.
        rows: where the blocks stand.
    """

    def __init__(self, model: nn.Module, base: nn.Module, encoder: nn.Module, rows: list[Row]):
        self.model = model
        self.base = base
        self.encoder = encoder
        self.rows = rows

    @property
    def blocks(self) -> list[nn.Module]:
        """The model's own blocks, in its own order."""
        return [block for row in self.rows for block in _before(row.blocks)]

    @property
    def order(self) -> list[int]:
        """Which block runs in each position."""
        numbers = {id(block): number for number, block in enumerate(self.blocks)}
        return [numbers[id(block)] for row in self.rows for block in row.blocks]

    @cached_property
    def _sublayers(self) -> list[list[Sublayer]]:
        ours = isinstance(self.base, EncoderModel)
        return [our_sublayers(block) if ours else huggingface_sublayers(block) for block in self.blocks]

    def sublayers(self, block: int) -> list[Sublayer]:
        """Those of a block, in order. Raises InputError where there is no such block."""
        if not isinstance(block, int) or not 0 <= block < len(self.blocks):
            raise InputError(f"block {block} is not there: the model has blocks 0 to {len(self.blocks) - 1}")
        return self._sublayers[block]

    def sites(self, block: int) -> dict[str, Site]:
        """The sites that a block has, by name.

        What mixes tokens has the names of self-attention also where a convolution stands in its place;
        `Site.kind` tells them apart.
        """
        sublayers = self.sublayers(block)
        found: dict[str, Site] = {}
        for number, sublayer in enumerate(sublayers):
            before = sum(other.part == sublayer.part for other in sublayers[:number])
            suffix = f"_{before + 1}" if before else ""
            found |= {site.name + suffix: site for site in sublayer.sites()}
        module, width = self.blocks[block], sublayers[0].start.width
        found["encoder"] = Site(
            name="encoder",
            kind="block",
            mixes=any(site.mixes for site in found.values()),
            start=Tap(module, INPUT, width),
            # with output_states a block of ours returns the outputs of all its sub-layers
            end=Tap(module, OUTPUT, width, element=-1),
            weights=tuple(weight for sublayer in sublayers for weight in sublayer.weights),
            norms=tuple(norm for sublayer in sublayers for norm in sublayer.norms),
            drops=tuple(sublayers),
        )
        return found

    def site(self, block: int, name: str) -> Site:
        """Raises InputError, listing those that there are, where the block has no site of this name."""
        sites = self.sites(block)
        if name not in sites:
            raise InputError(f"block {block} has no site {name!r}; it has {', '.join(sites)}")
        return sites[name]

    def heads(self, block: int) -> Heads | None:
        """The heads of a block, in the order in which masks count them; None where it has none."""
        return next((sublayer.heads for sublayer in self.sublayers(block) if sublayer.heads is not None), None)

    def capture(self, wanted: Iterable[Place]) -> AbstractContextManager[dict[Place, Pair]]:
        """Inside, after each forward pass: for each (block, site) its x [B, T, Dx] and y [B, T, Dy].

        They are zero at padding where the encoder leaves padding out. Of a block that runs several times it is the last
        time. Raises InputError for a site that is not there.
        """
        wanted = list(wanted)
        return capture_sites(self.base, {place: self.site(*place) for place in wanted})

    def head_mask(self) -> torch.Tensor:
        """Ones [L, H], H the most heads that any block has; what masks of this model look like."""
        heads = [self.heads(number) for number in range(len(self.blocks))]
        return torch.ones(len(heads), max((len(one) for one in heads if one is not None), default=0))


def adapt(model: nn.Module) -> LayeredModel:
    """The blocks of an encoder.

    Args:
        model: one of ours or Hugging Face's BERT, ELECTRA or ConvBERT, with or without a head, patched or not.

    Raises:
        InputError: anything else, a decoder, or several encoders in one.
    """
    bases = [module for module in model.modules() if isinstance(module, _SUPPORTED)]
    supported = ", ".join(kind.__name__ for kind in _SUPPORTED)
    if len(bases) != 1:
        found = f"holds {len(bases)} encoders; give one of them" if bases else "holds no encoder that is known"
        raise InputError(f"{type(model).__name__} {found}; supported: {supported}, with or without a head")
    (base,) = bases
    encoder = base.encoder
    if isinstance(base, EncoderModel):
        blocks = _before(encoder.blocks)
        if all(map(runs_as_one, blocks)):
            return LayeredModel(model, base, encoder, [Row(encoder, "blocks")])
        return LayeredModel(model, base, encoder, [Row(block, "sublayers") for block in blocks])
    if base.config.is_decoder or base.config.add_cross_attention:
        raise InputError(f"{type(model).__name__} is a decoder; supported are encoders: {supported}")
    return LayeredModel(model, base, encoder, [Row(encoder, "layer")])


def _before(blocks: nn.ModuleList) -> list[nn.Module]:
    return blocks.before if isinstance(blocks, Reordered) else list(blocks)
