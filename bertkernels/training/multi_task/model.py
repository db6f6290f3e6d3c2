"""One encoder with a head for each task, as the model that a Trainer trains."""

from collections.abc import Mapping

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from bertkernels.errors import InputError
from bertkernels.training.distillation.model import DistillationModel, encoder_of


class MultiTaskModel(PreTrainedModel):
    """What `DistillationModel`s of several tasks are with one encoder and one projection for all: the first's.

    Args:
        members: of each task, by its name; theirs are replaced by the first's.

    Raises:
        InputError: teachers whose states cannot be compared through one projection.
    """

    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # as a DistillationModel

    def __init__(self, members: Mapping[str, DistillationModel]) -> None:
        first, model = next(iter(members.items()))
        super().__init__(model.student.config)
        self.post_init()  # before there are weights, which it would draw anew
        share_encoder({task: member.student for task, member in members.items()})
        self.encoder, self.projection = encoder_of(model.student), model.projection
        self.heads = nn.ModuleDict({task: member.student.classifier for task, member in members.items()})
        for task, member in members.items():
            if _shapes(member.projection) != _shapes(self.projection):
                raise InputError(f"the teachers of {first} and {task} differ in width: all tasks share the projection")
            member.projection = self.projection
        self._members = dict(members)  # out of sight of torch, which would count the encoder many times
        self.task = first  # of batches that don't name theirs

    @property
    def student(self) -> PreTrainedModel:
        """The first task's; its encoder is every task's."""
        return self.students[next(iter(self._members))]

    @property
    def students(self) -> dict[str, PreTrainedModel]:
        """The encoder with each task's head, by the task's name."""
        return {task: member.student for task, member in self._members.items()}

    @property
    def teachers(self) -> list[PreTrainedModel]:
        return [teacher for member in self._members.values() for teacher in member.teachers]

    def forward(self, task: str | None = None, **inputs: torch.Tensor) -> ModelOutput:
        """As `DistillationModel.forward`, of a task by name (None: `self.task`)."""
        return self._members[task or self.task](**inputs, distil=self.training)


def share_encoder(models: Mapping[str, PreTrainedModel]) -> None:
    """Gives models with heads the first one's encoder."""
    encoder = encoder_of(next(iter(models.values())))
    for model in models.values():
        model.model = encoder


def check_same_encoder(models: Mapping[str, PreTrainedModel], folder: str) -> None:
    """Raises InputError where the models in a folder, by task, don't have encoders of one plan with equal weights."""
    first, *others = models
    wanted = encoder_of(models[first]).state_dict()
    for task in others:
        found = encoder_of(models[task]).state_dict()
        if found.keys() != wanted.keys() or not all(torch.equal(found[name], wanted[name]) for name in wanted):
            raise InputError(f"the models of {first} and {task} in {folder} differ in more than their heads")


def _shapes(projection: nn.Module | None) -> dict[str, torch.Size] | None:
    return None if projection is None else {name: x.shape for name, x in projection.state_dict().items()}
