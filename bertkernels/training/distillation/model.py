"""Student, projection and teacher as the model that a Trainer trains."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from bertkernels.models.encoder import EncoderModel
from bertkernels.training.distillation.comparison import Comparison, LossSettings
from bertkernels.training.distillation.losses import attention_loss, hidden_loss
from bertkernels.training.distillation.prediction_loss import OUTPUTS, prediction_loss
from bertkernels.training.distillation.projection import Projection
from bertkernels.training.distillation.states import CountedTokens, EncoderStates, capture_states

TEACHER_PREFIX = "teacher_"  # of inputs that hold what the teacher says
_TOKENS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


@dataclass
class DistillationOutput(ModelOutput):
    """The losses of a batch: `loss` is their weighted sum, the others are detached."""

    loss: torch.Tensor | None = None
    embedding_loss: torch.Tensor | None = None
    hidden_loss: torch.Tensor | None = None
    attention_loss: torch.Tensor | None = None
    logits_loss: torch.Tensor | None = None
    label_loss: torch.Tensor | None = None


class DistillationModel(PreTrainedModel):
    """In training its loss is what the student still has to learn of the teacher; else it is the student.

    The teacher is no part of it: it is neither trained nor saved, and always runs without dropout.

    Args:
        student, teacher: encoders of this package, with the task's head or bare; None: labels alone teach.
        comparison: what is compared.
        settings: weights and what is counted.
        projection: what the student's hidden states go through first; None: nothing.
    """

    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # losses are means, which the Trainer divides by accumulated steps

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        comparison: Comparison,
        settings: LossSettings,
        projection: Projection | None = None,
    ) -> None:
        super().__init__(student.config)
        self.post_init()  # before there are weights, which it would draw anew
        self.student, self.projection = student, projection
        self.teachers = () if teacher is None else (teacher.requires_grad_(False).eval(),)  # out of sight of torch
        self._comparison, self._settings = comparison, settings

    @property
    def teacher(self) -> PreTrainedModel:
        return self.teachers[0]

    @property
    def students(self) -> dict[str, PreTrainedModel]:
        """What is saved, by the folder in the run's that it goes to."""
        return {"": self.student}

    def forward(self, distil: bool | None = None, **inputs: torch.Tensor) -> ModelOutput:
        """The student's output; in training `DistillationOutput`.

        Args:
            distil: None: in training.
            inputs: the student's; those that begin with "teacher_" are what the teacher says of the batch, which then
                need not run for that.
        """
        known = {
            name.removeprefix(TEACHER_PREFIX): inputs.pop(name) for name in [*inputs] if name.startswith(TEACHER_PREFIX)
        }
        if not (self.training if distil is None else distil):
            return self.student(**inputs)
        compared = self._comparison
        pairs = (*compared.embeddings, *compared.hidden)
        hidden, attention = [student for student, _ in pairs], [student for student, _ in compared.attention]
        with capture_states(encoder_of(self.student), hidden, attention) as found:
            outputs = self.student(**inputs)
        wanted, said = EncoderStates(), known
        if pairs or compared.attention or (self._asks_the_head and not known):
            wanted, said = self._ask_teacher(inputs)
        losses = self._state_losses(found, wanted, inputs["attention_mask"]) if pairs or compared.attention else {}
        losses |= self._head_losses(outputs, known or said, inputs.get("labels"))
        total = sum(getattr(self._settings, f"{name}_weight") * loss for name, loss in losses.items())
        return DistillationOutput(loss=total, **{f"{name}_loss": loss.detach() for name, loss in losses.items()})

    @property
    def _regression(self) -> bool:
        return self.student.config.problem_type == "regression"

    @property
    def _asks_the_head(self) -> bool:
        settings = self._settings
        return bool(settings.logits_weight) and not (self._regression and settings.regression_labels)

    @torch.no_grad()
    def _ask_teacher(self, inputs: dict[str, torch.Tensor]) -> tuple[EncoderStates, ModelOutput]:
        compared = self._comparison
        hidden = [teacher for _, teacher in (*compared.embeddings, *compared.hidden)]
        attention = [teacher for _, teacher in compared.attention]
        with capture_states(encoder_of(self.teacher), hidden, attention) as wanted:
            return wanted, ask(self.teacher, inputs)

    def _state_losses(
        self, found: EncoderStates, wanted: EncoderStates, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        counted = CountedTokens.of(attention_mask.flatten(0, -2), self._settings.at_padding)
        losses = {}
        for name in ("embedding", "hidden"):
            pairs = self._comparison.embeddings if name == "embedding" else self._comparison.hidden
            if pairs:
                losses[name] = sum(self._hidden_loss(found, wanted, counted, *pair) for pair in pairs)
        if self._comparison.attention:
            losses["attention"] = sum(
                attention_loss(
                    found.scores(student, counted),
                    wanted.scores(teacher, counted),
                    counted.mask,
                    self._settings.at_padding,
                )
                for student, teacher in self._comparison.attention
            )
        return losses

    def _hidden_loss(
        self, found: EncoderStates, wanted: EncoderStates, counted: CountedTokens, student: int, teacher: int
    ) -> torch.Tensor:
        x = found.states(student, counted)
        if self.projection is not None:
            x = self.projection(x, student)
        return hidden_loss(x, wanted.states(teacher, counted))

    def _head_losses(
        self, outputs: ModelOutput, said: dict[str, torch.Tensor], labels: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        settings, losses = self._settings, {}
        if self._asks_the_head:
            losses["logits"] = prediction_loss(
                outputs,
                said,
                labels,
                regression=self._regression,
                temperature=settings.temperature,
                reduction=settings.logits_reduction,
            )
        elif settings.logits_weight:
            losses["logits"] = outputs.loss
        if settings.label_weight:
            losses["label"] = outputs.loss
        return losses


def encoder_of(model: PreTrainedModel) -> EncoderModel:
    return model if isinstance(model, EncoderModel) else model.model


@torch.no_grad()
def ask(teacher: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> ModelOutput:
    """The teacher's output, in its own precision; of an encoder without a head for the tokens alone."""
    if isinstance(teacher, EncoderModel):
        inputs = {name: x.flatten(0, -2) for name, x in inputs.items() if name in _TOKENS}
    with torch.autocast(inputs["input_ids"].device.type, enabled=False):
        return teacher(**inputs)


def head_outputs(output: ModelOutput) -> dict[str, torch.Tensor]:
    """What the head says, by name."""
    return {name: output[name] for name in OUTPUTS if output.get(name) is not None}
