"""Word, position and token type embeddings."""

import torch
from torch import nn

from bertkernels.nn import Alignment, Packing

from .configuration import EncoderConfig


class Embeddings(nn.Module):
    """dropout(LayerNorm(word + position + token type)), embedding_size wide.

    The padding token's row trains like any other, as in the published code: under `padding="reference"` it takes part
    in convolutions.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        width = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
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

        token_type_ids default to 0, position_ids to 0 … T - 1.
        """
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds  # [B, T, E]
        if position_ids is None:
            position_ids = self._positions(words)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        x = words + self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids)
        if packing is not None:
            # before the LayerNorm: a NaN at padding would reach its weight's gradient
            x = packing.pack(x)
        return self.dropout(self.norm(x))

    def _positions(self, words: torch.Tensor) -> torch.Tensor:
        tokens, known = words.shape[1], self.position_embeddings.num_embeddings
        if tokens > known:
            raise ValueError(f"sequences of {tokens} tokens are longer than max_position_embeddings, {known}")
        return torch.arange(tokens, device=words.device)[None]  # [1, T]
