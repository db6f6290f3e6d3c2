"""One of several answers: each is read with its question on its own, and the best score wins."""

import torch
from torch.nn import functional
from transformers import AutoModelForMultipleChoice
from transformers.modeling_outputs import MultipleChoiceModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration import EncoderConfig
from .encoder import EncoderModel, EncoderPreTrainedModel
from .heads import ClassificationHead


class EncoderForMultipleChoice(EncoderPreTrainedModel):
    """The encoder with a score of each choice from its first token (through the pooler, if it has one)."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.model = EncoderModel(config)
        self.classifier = ClassificationHead(config, outputs=1)
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
    ) -> MultipleChoiceModelOutput:
        """Scores choices, N for each of B questions.

        Args:
            input_ids: int64 [B, N, T]; or inputs_embeds [B, N, T, E].
            attention_mask, token_type_ids, position_ids: [B, N, T], as `EncoderModel.forward` takes them of B·N
                sequences.
            labels: int64 [B]: the number of the right choice.
            output_hidden_states, output_attentions: as `EncoderModel.forward`, of B·N sequences.

        Returns:
            loss: cross entropy over the choices, the mean over the batch; only with labels. logits: [B, N].

        Raises:
            ValueError: both or neither of input_ids and inputs_embeds; input_ids that are not [B, N, T].
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        given = input_ids if inputs_embeds is None else inputs_embeds[..., 0]
        if given.ndim != 3:
            raise ValueError(f"choices must be [B, N, T], got {list(given.shape)}")
        encoded = self.model(
            _sequences(input_ids),
            _sequences(attention_mask),
            _sequences(token_type_ids),
            _sequences(position_ids),
            _sequences(inputs_embeds),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        logits = self.classifier(encoded.pooler_output).view(given.shape[:2])
        return MultipleChoiceModelOutput(
            loss=None if labels is None else functional.cross_entropy(logits.float(), labels.view(-1)),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


def _sequences(x: torch.Tensor | None) -> torch.Tensor | None:
    """[B, N, …] → [B·N, …]"""
    return None if x is None else x.flatten(0, 1)


AutoModelForMultipleChoice.register(EncoderConfig, EncoderForMultipleChoice, exist_ok=True)
