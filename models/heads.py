"""Heads on the encoder: masked language model, replaced-token detection, sequence classification."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoModelForSequenceClassification
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from bertkernels.nn import ACTIVATIONS, GlorotLinear

from .configuration import EncoderConfig
from .encoder import EncoderModel, EncoderPreTrainedModel

IGNORED = -100  # a label that takes no part in a loss


class MaskedLMPrediction(nn.Module):
    """LayerNorm(activation(dense(x))) · word embeddingsᵀ + bias."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.embedding_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x […, C] → logits […, V]"""
        return self.decoder(self.norm(self.activation(self.dense(x)))) + self.bias

    def replace_decoder(self, decoder: nn.Linear) -> None:
        """Takes a decoder for another number of tokens; new ones get bias 0."""
        more = decoder.out_features - self.bias.shape[0]
        self.decoder = decoder
        self.bias = nn.Parameter(functional.pad(self.bias.data, (0, more)))


class EncoderForMaskedLM(EncoderPreTrainedModel):
    """The encoder with a masked language model's head, which is also ELECTRA's generator."""

    _tied_weights_keys = {"prediction.decoder.weight": "model.embeddings.word_embeddings.weight"}

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.model = EncoderModel(config, add_pooler=False)
        self.prediction = MaskedLMPrediction(config)
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
        masked_positions: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> MaskedLMOutput:
        """Predicts tokens.

        Args:
            masked_positions: int64 [B, P]: predict at these positions only; None: at all T.
            labels: int64 [B, T] (with masked_positions [B, P]): the true tokens; -100 takes no part in the loss.
            The others: as `EncoderModel.forward`.

        Returns:
            loss: mean cross entropy over labels that are not -100, 0 where all are; only with labels. Those at padding
                take no part where the encoder runs packed.
            logits: [B, T, V], zeros at padding where the encoder runs packed; or [B, P, V].
        """
        encoded = self.model(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            unpack=masked_positions is not None,
            return_dict=True,
        )
        x, packing = encoded.last_hidden_state, encoded.packing
        if masked_positions is not None:
            x = gather_positions(x, masked_positions)  # [B, P, C]
        logits = self.prediction(x)  # [B, T, V], packed [total, V], or [B, P, V]
        loss = None
        if labels is not None:
            given = input_ids if inputs_embeds is None else inputs_embeds
            shape = given.shape[:2] if masked_positions is None else masked_positions.shape
            if labels.shape != shape:
                raise ValueError(f"labels must be {list(shape)} like the logits, got {list(labels.shape)}")
            counted = labels if packing is None else packing.pack(labels)
            loss = token_losses(logits, counted).sum() / (counted != IGNORED).sum().clamp(min=1)
        return MaskedLMOutput(
            loss=loss,
            logits=logits if packing is None else packing.unpack(logits),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


@dataclass
class ReplacedTokenDetectionOutput(ModelOutput):
    """loss: only with labels. logits: [B, T], above 0 where a token is taken for replaced."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class ReplacedTokenPrediction(nn.Module):
    """output(activation(dense(x)))"""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.output = GlorotLinear(config.hidden_size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x […, C] → logits […]"""
        return self.output(self.activation(self.dense(x))).squeeze(-1)


class EncoderForReplacedTokenDetection(EncoderPreTrainedModel):
    """The encoder with ELECTRA's head, which tells replaced tokens from original ones: the discriminator."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.model = EncoderModel(config, add_pooler=False)
        self.prediction = ReplacedTokenPrediction(config)
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
    ) -> ReplacedTokenDetectionOutput:
        """Says of each token whether it was replaced.

        Args:
            labels: [B, T]: 1 where a token was replaced, 0 where not, -100 where it takes no part in the loss.
            The others: as `EncoderModel.forward`.

        Returns:
            loss: as `replaced_token_loss`, over the real tokens; only with labels. logits: [B, T], zeros at padding
                where the encoder runs packed.
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
        logits = self.prediction(encoded.last_hidden_state)  # [B, T], or packed [total]
        if encoded.packing is not None:
            logits = encoded.packing.unpack(logits)
        return ReplacedTokenDetectionOutput(
            loss=None if labels is None else replaced_token_loss(logits, labels, attention_mask),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


class ClassificationHead(nn.Module):
    """output(dropout(x)), or with classifier_hidden_act output(dropout(activation(dense(dropout(x)))))."""

    def __init__(self, config: EncoderConfig, outputs: int | None = None):
        super().__init__()
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        hidden = config.classifier_hidden_act is not None
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size) if hidden else None
        self.activation = ACTIVATIONS[config.classifier_hidden_act] if hidden else None
        self.output = GlorotLinear(config.hidden_size, config.num_labels if outputs is None else outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C] → logits [B, outputs], num_labels of them unless said otherwise"""
        x = self.dropout(x)
        if self.dense is not None:
            x = self.dropout(self.activation(self.dense(x)))
        return self.output(x)


class EncoderForSequenceClassification(EncoderPreTrainedModel):
    """The encoder with a classification or regression head on its first token (through the pooler, if it has one)."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.model = EncoderModel(config)
        self.classifier = ClassificationHead(config)
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
    ) -> SequenceClassifierOutput:
        """Classifies sequences.

        Args:
            labels: int64 [B] (cross entropy over num_labels classes), floating [B] or [B, 1] for one label (squared
                error), floating [B, num_labels] for several (binary cross entropy each). config.problem_type decides;
                where it is not set, num_labels and the labels' dtype do.
            The others: as `EncoderModel.forward`.

        Returns:
            loss: the mean over the batch; only with labels. logits: [B, num_labels].
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
        logits = self.classifier(encoded.pooler_output)
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        problem = self.config.problem_type
        if problem is None:
            several = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
            problem = "regression" if self.config.num_labels == 1 else several
        logits = logits.float()
        if problem == "single_label_classification":
            return functional.cross_entropy(logits, labels.view(-1))
        # several numbers a sequence are [B, num_labels], one may also come as [B]
        labels = labels.view(logits.shape).to(logits.dtype)
        if problem == "regression":
            return functional.mse_loss(logits, labels)
        return functional.binary_cross_entropy_with_logits(logits, labels)


def gather_positions(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """x [B, T, …] at positions int64 [B, P] → [B, P, …]"""
    return x[torch.arange(x.shape[0], device=x.device)[:, None], positions]


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy in fp32 of logits […, V] and labels int64 […] → […]; 0 where a label is -100."""
    losses = functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(labels.shape)


def replaced_token_loss(
    logits: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Binary cross entropy in fp32 over real tokens, [CLS] and [SEP] included: Σ losses / (Σ mask + 1e-6).

    logits [B, T]; labels [B, T]: 1, 0, or -100 to leave a token out; attention_mask [B, T] or None.
    """
    counted = (labels != IGNORED).float()
    if attention_mask is not None:
        counted = counted * attention_mask.float()
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), labels.clamp(min=0).float(), reduction="none"
    )  # [B, T]
    return (losses * counted).sum() / (counted.sum() + 1e-6)


AutoModelForMaskedLM.register(EncoderConfig, EncoderForMaskedLM, exist_ok=True)
AutoModelForPreTraining.register(EncoderConfig, EncoderForReplacedTokenDetection, exist_ok=True)
AutoModelForSequenceClassification.register(EncoderConfig, EncoderForSequenceClassification, exist_ok=True)
