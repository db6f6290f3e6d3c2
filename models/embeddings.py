"""Word, position and token type embeddings, of single tokens or of trigrams."""

import torch
from torch import nn

from bertkernels.nn import Alignment, Packing, apply_linear

from .configuration import EncoderConfig


class Embeddings(nn.Module):
    """dropout(LayerNorm(word + position + token type)), embedding_size wide.

    `width`, where given, is that of the position and token type tables and of the sum.

    The padding token's row trains like any other, as in the published code: under `padding="reference"` it takes part
    in convolutions.
    """

    def __init__(self, config: EncoderConfig, width: int | None = None):
        super().__init__()
        width = config.embedding_size if width is None else width
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        packing: Packing | Alignment | None = None,
    ) -> torch.Tensor:
        """input_ids [B, T] or, in place of their rows, inputs_embeds [B, T, E] → [B, T, E].

        With `packing` as that packs them.

        token_type_ids default to 0, position_ids to 0 … T - 1. With `packing` nothing that stands at padding is looked
        at, and positions are counted over real tokens alone.
        """
        given = input_ids if inputs_embeds is None else inputs_embeds
        shape = given.shape[:2]
        if position_ids is None:
            position_ids = self._positions(given, packing)  # [1, T], or packed [total]
        elif packing is not None:
            position_ids = packing.pack(position_ids.expand(shape))
        if packing is not None:
            given = packing.pack(given)
        words = self._words(given, inputs_embeds is None, packing)  # [B, T, E], or packed as all below
        if token_type_ids is None:
            token_type_ids = position_ids.new_zeros(1)  # for all tokens: its gradient is one sum over them
        elif packing is not None:
            token_type_ids = packing.pack(token_type_ids.expand(shape))
        # in this order only one addition is over all tokens where their types are not told apart
        x = words + (self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids))
        return self.dropout(self.norm(x))

    def _words(self, given: torch.Tensor, are_ids: bool, packing: Packing | Alignment | None) -> torch.Tensor:
        """Words as wide as what is added to them, of their ids or embeddings."""
        return self.word_embeddings(given) if are_ids else given

    def _positions(self, given: torch.Tensor, packing: Packing | Alignment | None) -> torch.Tensor:
        packed = isinstance(packing, Packing)
        tokens = packing.layout.max_seqlen if packed else given.shape[1]
        known = self.position_embeddings.num_embeddings
        if tokens > known:
            raise ValueError(f"sequences of {tokens} tokens are longer than max_position_embeddings, {known}")
        return packing.positions() if packed else torch.arange(tokens, device=given.device)[None]


class TrigramEmbeddings(Embeddings):
    """dropout(LayerNorm(linear(word after ∥ word ∥ word before) + position + token type)), hidden_size wide.

    Beyond a sequence's ends there are zeros. Under `padding="exact"` its ends are those of its real tokens; under
    "reference" the last one's successor is padding, as in the released EfficientBERT code.

    Source: MobileBERT (Sun et al. 2020, arXiv 2004.02984, §3.1); the order of the three is EfficientBERT's program's.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__(config, config.hidden_size)
        self.trigram = nn.Linear(3 * config.embedding_size, config.hidden_size)

    def _words(self, given: torch.Tensor, are_ids: bool, packing: Packing | Alignment | None) -> torch.Tensor:
        # what `_gathered` writes into, autograd and compilers would copy
        in_place = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if are_ids and in_place and not isinstance(packing, Alignment):
            words = self._gathered(given, packing)
        else:
            words = trigrams(self.word_embeddings(given) if are_ids else given, packing)
        # what layers add to keeps its dtype under autocast
        return apply_linear(self.trigram, words).to(words.dtype)

    def _gathered(self, ids: torch.Tensor, packing: Packing | None) -> torch.Tensor:
        """`trigrams` of the words of ids [B, T] or packed [total]: each row goes where it belongs at once."""
        windows = nn.functional.pad(ids, (1, 1)).unfold(-1, 3, 1)  # [B, T, 3]: before, word, after
        words = self.word_embeddings(windows.flip(-1))  # [B, T, 3, E]
        if packing is None:
            words[:, :1, 2] = 0
            words[:, -1:, 0] = 0
        else:
            after, _, before = words.unbind(-2)
            first = packing.positions()[:, None] == 0  # [total, 1]
            before.masked_fill_(first, 0)
            after.masked_fill_(torch.cat([first[1:], first[:1]]), 0)  # the last token's successor: nobody
        return words.flatten(-2)


def trigrams(words: torch.Tensor, packing: Packing | Alignment | None = None) -> torch.Tensor:
    """words [B, T, E], or as `packing` packs them, → [B, T, 3·E] likewise: the next word, the word, the one before."""
    if isinstance(packing, Alignment):
        words = packing.layout.clear_padding(words)
    after, before = (shifted(words, by) for by in (-1, 1))
    if isinstance(packing, Packing):
        first = packing.positions()[:, None] == 0  # [total, 1]
        before = before.masked_fill(first, 0)
        after = after.masked_fill(shifted(first, -1), 0)
    return torch.cat([after, words, before], -1)


def shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    """x […, T, E] moved by ±1 along T: 1 puts each row where its successor was. Zeros, or False, fill the gap."""
    gap = torch.zeros_like(x[..., :1, :])
    return torch.cat([gap, x[..., :-1, :]] if by == 1 else [x[..., 1:, :], gap], -2)
