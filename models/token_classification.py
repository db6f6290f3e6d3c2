"""A label for every token: named entities, chunks, parts of speech."""

import torch
from torch import nn
from transformers import AutoModelForTokenClassification
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from bertkernels.nn import GlorotLinear

from .configuration import EncoderConfig
from .encoder import EncoderModel, EncoderPreTrainedModel
from .heads import IGNORED, token_losses


class TokenClassificationHead(nn.Module):
    """output(dropout(x)); as in the original systems with classifier_dropout 0."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.output = GlorotLinear(config.hidden_size, config.num_labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x […, C] → logits […, num_labels]"""
        return self.output(self.dropout(x))


class EncoderForTokenClassification(EncoderPreTrainedModel):
    """The encoder with a linear classifier of each token."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.model = EncoderModel(config, add_pooler=False)
        self.classifier = TokenClassificationHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> TokenClassifierOutput:
        """Classifies tokens.

        Args:
            labels: int64 [B, T]: the classes; -100 takes no part in the loss.
            The others: as `EncoderModel.forward`.

        Returns:
            loss: mean cross entropy over labels that are not -100, 0 where all are; only with labels. Those at padding
                take no part where the encoder runs packed.
            logits: [B, T, num_labels], zeros at padding where the encoder runs packed.

        Raises:
            ValueError: labels of another shape than the tokens'.
        """
        encoded = self.model(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            unpack=False,
            return_dict=True,
        )
        packing = encoded.packing
        logits = self.classifier(encoded.last_hidden_state)  # [B, T, L], or packed [total, L]
        loss = None
        if labels is not None:
            shape = (input_ids if inputs_embeds is None else inputs_embeds).shape[:2]
            if labels.shape != shape:
                raise ValueError(f"labels must be [B, T] = {list(shape)}, got {list(labels.shape)}")
            counted = labels if packing is None else packing.pack(labels)
            loss = token_losses(logits, counted).sum() / (counted != IGNORED).sum().clamp(min=1)
        return TokenClassifierOutput(
            loss=loss,
            logits=logits if packing is None else packing.unpack(logits),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


AutoModelForTokenClassification.register(EncoderConfig, EncoderForTokenClassification, exist_ok=True)
