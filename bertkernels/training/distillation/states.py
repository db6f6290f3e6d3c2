"""What an encoder computes inside while it runs, padded or packed: hidden states, and scores before their softmax."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import Packing, pack_mask
from bertkernels.nn.layout import ALL_TOKENS, Layout


@dataclass(frozen=True)
class CountedTokens:
    """The tokens of a batch that losses count, in one order whatever form an encoder ran in.

    Attributes:
        batch, tokens: B, T.
        mask: bool [B, T], the real ones; None: all are.
        packing: of those that count, None where all do.
    """

    batch: int
    tokens: int
    mask: torch.Tensor | None
    packing: Packing | None

    @classmethod
    def of(cls, attention_mask: torch.Tensor, at_padding: bool = False) -> "CountedTokens":
        """attention_mask: [B, T]. `at_padding`: padding counts too, which takes an encoder that runs padded."""
        mask = attention_mask.bool()
        packing = pack_mask(mask)
        return cls(*mask.shape, None if packing is None else mask, None if at_padding else packing)

    def rows(self, x: torch.Tensor, layout: Layout) -> torch.Tensor:
        """x [B, T, …], or [total, …] if it ran packed → [counted, …]"""
        if layout.cu_seqlens is not None:
            return x
        return x.flatten(0, 1) if self.packing is None else self.packing.pack(x)

    def padded(self, x: torch.Tensor, layout: Layout) -> torch.Tensor:
        """The same → [B, T, …], zeros where a token does not count"""
        rows = self.rows(x, layout)
        return rows.unflatten(0, (self.batch, self.tokens)) if self.packing is None else self.packing.unpack(rows)


@dataclass
class EncoderStates:
    """States of one forward pass, in the form that it ran in.

    Attributes:
        layout: that form.
        hidden: by number: 0 the first block's input, i + 1 the output of block i: [B, T, C] or packed [total, C].
        queries, keys: by block, [B, T, H·D] or packed, and the H of each block.
    """

    layout: Layout = ALL_TOKENS
    hidden: dict[int, torch.Tensor] = field(default_factory=dict)
    queries: dict[int, torch.Tensor] = field(default_factory=dict)
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    heads: dict[int, int] = field(default_factory=dict)

    def states(self, number: int, counted: CountedTokens) -> torch.Tensor:
        """hidden[number] of the tokens that count, [counted, C]."""
        return counted.rows(self.hidden[number], self.layout)

    def scores(self, block: int, counted: CountedTokens) -> torch.Tensor:
        """query · keyᵀ / √D [B, H, T, T] of a block; what stands at tokens that don't count means nothing."""
        heads = self.heads[block]
        query, key = (
            counted.padded(x[block], self.layout).unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, T, D]
            for x in (self.queries, self.keys)
        )
        return query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5


def attention_of(block: nn.Module) -> nn.Module | None:
    """The function of a block's last sub-layer with attention heads, None where it has none."""
    functions = [sublayer.function for sublayer in block.sublayers]
    return next((function for function in reversed(functions) if hasattr(function, "attention_probs")), None)


def block_heads(encoder: EncoderModel) -> list[int]:
    """Attention heads of each block, 0 where it has none."""
    found = [attention_of(block) for block in encoder.encoder.blocks]
    return [0 if function is None else function.heads for function in found]


@contextlib.contextmanager
def capture_states(
    encoder: EncoderModel, hidden: Collection[int], attention: Collection[int]
) -> Iterator[EncoderStates]:
    """Inside, the encoder's forward pass leaves its states here; the last one does.

    By hooks that are gone afterwards: sub-layers that nobody looks into keep running as one op.

    Args:
        hidden: numbers of the hidden states to keep, as `EncoderStates.hidden` counts them.
        attention: blocks whose queries and keys to keep; they must have heads.
    """
    states = EncoderStates()
    blocks = encoder.encoder.blocks

    def keep_input(_, arguments, named) -> None:
        states.layout = arguments[1] if len(arguments) > 1 else named.get("layout", ALL_TOKENS)
        if 0 in hidden:
            states.hidden[0] = arguments[0]

    def keep(place: dict[int, torch.Tensor], number: int):
        def hook(_, __, output) -> None:
            place[number] = output[-1] if isinstance(output, tuple) else output

        return hook

    with contextlib.ExitStack() as hooks:

        def add(handle: torch.utils.hooks.RemovableHandle) -> None:
            hooks.callback(handle.remove)

        add(encoder.encoder.register_forward_pre_hook(keep_input, with_kwargs=True))
        for number in hidden:
            if number:
                add(blocks[number - 1].register_forward_hook(keep(states.hidden, number)))
        for number in attention:
            function = attention_of(blocks[number])
            states.heads[number] = function.heads
            add(function.query.register_forward_hook(keep(states.queries, number)))
            add(function.key.register_forward_hook(keep(states.keys, number)))
        yield states
