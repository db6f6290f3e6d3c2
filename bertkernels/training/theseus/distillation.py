"""A loss on a teacher's logits, beside the task's own."""

from collections.abc import Mapping

import torch
from torch.nn import functional
from transformers import PreTrainedConfig

from bertkernels.models.heads import IGNORED

_LOGITS = ("logits", "start_logits", "end_logits")


def distillation_loss(
    student: Mapping[str, torch.Tensor],
    teacher: Mapping[str, torch.Tensor],
    config: PreTrainedConfig,
    labels: torch.Tensor | None,
    temperature: float = 1.0,
) -> torch.Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), the mean over rows; of regression the squared difference.

    Source: Hinton et al. 2015 (arXiv 1503.02531), whose T² keeps gradients as large whatever T is.

    Args:
        student, teacher: outputs of models with the same head: logits […, classes], of question answering those of
            starts and of ends, whose losses are averaged.
        labels: where they are as many as the rows of logits, those that are -100 leave their row out.
    """
    pairs = [(student[name], teacher[name]) for name in _LOGITS if name in student]
    losses = [_loss(found.float(), wanted.float(), config, labels, temperature) for found, wanted in pairs]
    return torch.stack(losses).mean()


def _loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    config: PreTrainedConfig,
    labels: torch.Tensor | None,
    temperature: float,
) -> torch.Tensor:
    if getattr(config, "problem_type", None) == "regression":
        return functional.mse_loss(student, teacher)
    student, teacher = student.flatten(0, -2), teacher.flatten(0, -2)  # [rows, classes]
    if labels is not None and labels.numel() == len(student):
        counted = labels.flatten() != IGNORED
        student, teacher = student[counted], teacher[counted]
    found, wanted = (torch.log_softmax(logits / temperature, -1) for logits in (student, teacher))
    return temperature**2 * functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
