"""BERT's pre-training pair: a masked language model that also says whether two segments follow each other."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration import EncoderConfig
from .encoder import EncoderModel, EncoderPreTrainedModel
from .heads import IGNORED, MaskedLMPrediction, gather_positions, token_losses


@dataclass
class MaskedLMAndNextSentenceOutput(ModelOutput):
    """What a pre-training step computes.

    Attributes:
        loss: masked_lm_loss + next_sentence_loss; of those whose labels are given.
        masked_lm_loss: Σ cross entropy / (number of labels + 1e-5).
        next_sentence_loss: mean cross entropy.
        masked_lm_logits: [B, T, V] or [B, P, V]. next_sentence_logits: [B, 2]: follows, is from elsewhere.
    """

    loss: torch.Tensor | None = None
    masked_lm_loss: torch.Tensor | None = None
    next_sentence_loss: torch.Tensor | None = None
    masked_lm_logits: torch.Tensor | None = None
    next_sentence_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class EncoderForMaskedLMAndNextSentence(EncoderPreTrainedModel):
    """The encoder with a masked language model's head, and a linear layer on its pooled first token.

    It has a pooler whatever config.pooler says. Source: BERT (Devlin et al. 2019, §3.1) and its released code.
    """

    _tied_weights_keys = {"prediction.decoder.weight": "model.embeddings.word_embeddings.weight"}

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.model = EncoderModel(config, add_pooler=True)
        self.prediction = MaskedLMPrediction(config)
        self.next_sentence = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.prediction.decoder

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.prediction.replace_decoder(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        next_sentence_label: torch.Tensor | None = None,
        masked_positions: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> MaskedLMAndNextSentenceOutput:
        """Predicts tokens, and whether the second segment follows the first.

        Args:
            masked_positions: int64 [B, P]: predict tokens at these positions only; None: at all T.
            labels: int64 [B, T] (with masked_positions [B, P]): the true tokens; -100, as at padding, takes no part in
                the loss.
            next_sentence_label: int64 [B]: 0 where the second segment follows, 1 where it is from elsewhere, -100 where
                it takes no part in the loss.
            The others: as `EncoderModel.forward`.
        """
        encoded = self.model(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        x = encoded.last_hidden_state  # [B, T, C]
        if masked_positions is not None:
            x = gather_positions(x, masked_positions)  # [B, P, C]
        logits = self.prediction(x)
        follows = self.next_sentence(encoded.pooler_output)  # [B, 2]
        masked_lm_loss = next_sentence_loss = None
        if labels is not None:
            if labels.shape != logits.shape[:-1]:
                raise ValueError(f"labels must be {list(logits.shape[:-1])} like the logits, got {list(labels.shape)}")
            masked_lm_loss = token_losses(logits, labels).sum() / ((labels != IGNORED).sum() + 1e-5)
        if next_sentence_label is not None:
            counted = (next_sentence_label != IGNORED).sum().clamp(min=1)
            next_sentence_loss = token_losses(follows, next_sentence_label).sum() / counted
        losses = [loss for loss in (masked_lm_loss, next_sentence_loss) if loss is not None]
        return MaskedLMAndNextSentenceOutput(
            loss=torch.stack(losses).sum() if losses else None,
            masked_lm_loss=masked_lm_loss,
            next_sentence_loss=next_sentence_loss,
            masked_lm_logits=logits,
            next_sentence_logits=follows,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
