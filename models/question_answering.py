"""Extractive question answering: two independent logits a token, or ELECTRA's end that depends on the start."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForQuestionAnswering
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from bertkernels.nn import GlorotLinear

from .configuration import EncoderConfig
from .encoder import EncoderModel, EncoderPreTrainedModel
from .heads import gather_positions

_HIDDEN = 512  # width of the hidden layers of ELECTRA's heads, whatever the encoder's
_EXCLUDED = 1000.0  # taken from the logit of a token that cannot be part of an answer, as in the original


@dataclass
class QuestionAnsweringOutput(ModelOutput):
    """What a question-answering model returns. k is the smaller of config.beam_size and T.

    Attributes:
        loss: the mean over the batch; only with start_positions and end_positions.
        start_logits: fp32 [B, T]. 1000 less where no answer can be: at padding, and in the question.
        end_logits: the same for the end; of the joint head, given the true start or, without one, the likeliest.
        start_top_log_probs, start_top_index: [B, k]: the joint head's likeliest starts; not while it is trained.
        end_top_log_probs, end_top_index: [B, k, k]: the likeliest ends given each of them.
        no_answer_logits: [B]: above 0 where the question is taken for unanswerable; with config.answerable_classifier.
    """

    loss: torch.Tensor | None = None
    start_logits: torch.Tensor | None = None
    end_logits: torch.Tensor | None = None
    start_top_log_probs: torch.Tensor | None = None
    start_top_index: torch.Tensor | None = None
    end_top_log_probs: torch.Tensor | None = None
    end_top_index: torch.Tensor | None = None
    no_answer_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class PlainSpanHead(nn.Module):
    """Logits of the start and of the end, each a linear function of the token's state; Hugging Face's `qa_outputs`."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.output = GlorotLinear(config.hidden_size, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [B, T, C] → start and end logits, fp32 [B, T] each"""
        start, end = self.output(x).float().unbind(-1)
        return start, end


class JointSpanHead(nn.Module):
    """ELECTRA's: the start as in the plain head; the end from the token's state beside that of a given start.

    end[t | s] = output(gelu(dense([x_s, x_t])))
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.start_output = GlorotLinear(config.hidden_size, 1)
        self.end_dense = GlorotLinear(2 * config.hidden_size, _HIDDEN)
        self.end_output = GlorotLinear(_HIDDEN, 1)

    def start_logits(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, C] → fp32 [B, T]"""
        return self.start_output(x).squeeze(-1).float()

    def end_logits(self, x: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """x [B, T, C], starts int64 [B, k] → the end's logits given each start, fp32 [B, k, T]"""
        # dense([a, b]) is a product of a and one of b: that of all tokens is the same for every start
        of_start, of_end = self.end_dense.weight.chunk(2, dim=1)
        ends = functional.linear(x, of_end, self.end_dense.bias)  # [B, T, 512]
        begun = functional.linear(gather_positions(x, starts), of_start)  # [B, k, 512]
        logits = [
            self.end_output(functional.gelu(ends + start[:, None])).squeeze(-1)  # one start at a time: [B, T, 512]
            for start in begun.unbind(1)
        ]
        return torch.stack(logits, 1).float()


class NoAnswerHead(nn.Module):
    """ELECTRA's answerability classifier on the first token, beside the states' mean under the start's probabilities.

    output(gelu(dense([x_0, Σ softmax(start)·x]))), or without config.answerable_uses_start_logits output(x_0).
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        uses_start = config.answerable_uses_start_logits
        self.dense = GlorotLinear(2 * config.hidden_size, _HIDDEN) if uses_start else None
        self.output = GlorotLinear(_HIDDEN if uses_start else config.hidden_size, 1)

    def forward(self, x: torch.Tensor, start_logits: torch.Tensor) -> torch.Tensor:
        """x [B, T, C], start_logits fp32 [B, T] → fp32 [B]"""
        first = x[:, 0]
        if self.dense is not None:
            probable = start_logits.softmax(-1).to(x.dtype)  # [B, T]
            start = torch.einsum("bt,btc->bc", probable, x)
            first = functional.gelu(self.dense(torch.cat([first, start], -1)))
        return self.output(first).squeeze(-1).float()


class EncoderForQuestionAnswering(EncoderPreTrainedModel):
    """The encoder with a head for questions on a text: [CLS] question [SEP] text [SEP], the answer a span of the text.

    config.qa_head chooses the head, config.answerable_classifier adds the classifier of unanswerable questions, whose
    answer is the first token. Sequences begin at their first position: pad on the right.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.model = EncoderModel(config, add_pooler=False)
        self.span = (JointSpanHead if config.qa_head == "joint" else PlainSpanHead)(config)
        self.no_answer = NoAnswerHead(config) if config.answerable_classifier else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        is_impossible: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> QuestionAnsweringOutput:
        """Finds answers.

        Args:
            token_type_ids: int64 [B, T]: 1 where the text is; None: answers may be anywhere but in padding.
            start_positions, end_positions: int64 [B]: the answer's first and last token, both 0 where there is none.
            is_impossible: [B]: 1 or True where there is no answer; a loss with answerable_classifier needs it.
            The others: as `EncoderModel.forward`.

        Returns:
            loss: (CE(start) + CE(end)) / 2, plus config.answerable_weight · BCE(no_answer, is_impossible) with
                answerable_classifier. Its end is given the true start.

        Raises:
            ValueError: labels that do not come together.
        """
        trained = start_positions is not None
        if trained != (end_positions is not None):
            raise ValueError("start_positions and end_positions go together")
        if trained and self.no_answer is not None and is_impossible is None:
            raise ValueError("the loss of a model with answerable_classifier needs is_impossible")
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
        excluded = _EXCLUDED * (1 - _answer_tokens(x, attention_mask, token_type_ids))  # [B, T]
        if self.config.qa_head == "joint":
            found = self._joint(x, excluded, start_positions)
        else:
            start, end = self.span(x)
            found = QuestionAnsweringOutput(start_logits=start - excluded, end_logits=end - excluded)
        no_answer = None if self.no_answer is None else self.no_answer(x, found.start_logits)
        loss = None
        if trained:
            loss = self._loss(found, no_answer, start_positions, end_positions, is_impossible)
        # made once: an output's order is that in which its fields are set
        return QuestionAnsweringOutput(
            **{**found, "loss": loss, "no_answer_logits": no_answer},
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def _joint(
        self, x: torch.Tensor, excluded: torch.Tensor, start_positions: torch.Tensor | None
    ) -> QuestionAnsweringOutput:
        start_logits = self.span.start_logits(x) - excluded
        beams = {}
        if self.training:
            given = start_logits.argmax(-1) if start_positions is None else start_positions
        else:
            count = min(self.config.beam_size, x.shape[1])
            top = start_logits.log_softmax(-1).topk(count)
            ends = self.span.end_logits(x, top.indices) - excluded[:, None]  # [B, k, T]
            top_ends = ends.log_softmax(-1).topk(count)
            beams = {
                "start_top_log_probs": top.values,
                "start_top_index": top.indices,
                "end_top_log_probs": top_ends.values,
                "end_top_index": top_ends.indices,
            }
            given = start_positions
        if given is None:
            end_logits = ends[:, 0]
        else:
            end_logits = self.span.end_logits(x, given[:, None])[:, 0] - excluded
        return QuestionAnsweringOutput(start_logits=start_logits, end_logits=end_logits, **beams)

    def _loss(
        self,
        found: QuestionAnsweringOutput,
        no_answer: torch.Tensor | None,
        start_positions: torch.Tensor,
        end_positions: torch.Tensor,
        is_impossible: torch.Tensor | None,
    ) -> torch.Tensor:
        starts = functional.cross_entropy(found.start_logits, start_positions)
        ends = functional.cross_entropy(found.end_logits, end_positions)
        loss = (starts + ends) / 2
        if no_answer is not None:
            wrong = functional.binary_cross_entropy_with_logits(no_answer, is_impossible.float())
            loss = loss + self.config.answerable_weight * wrong
        return loss


def _answer_tokens(
    x: torch.Tensor, attention_mask: torch.Tensor | None, token_type_ids: torch.Tensor | None
) -> torch.Tensor:
    """fp32 [B, T]: 1 at the tokens an answer may begin or end at: the text, the [SEP] after it, the first token."""
    mask = x.new_ones(x.shape[:2], dtype=torch.float32)
    if attention_mask is not None:
        mask = mask * attention_mask.float()
    if token_type_ids is not None:
        mask = mask * token_type_ids.float()
    first = functional.one_hot(torch.zeros_like(mask[:, 0], dtype=torch.int64), mask.shape[1])
    return torch.maximum(mask, first.float())


AutoModelForQuestionAnswering.register(EncoderConfig, EncoderForQuestionAnswering, exist_ok=True)
