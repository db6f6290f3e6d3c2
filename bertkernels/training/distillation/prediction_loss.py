"""The distillation loss on what a head says, for each kind of head."""

from collections.abc import Mapping

import torch
from torch.nn import functional

from bertkernels.models.heads import IGNORED
from bertkernels.training.distillation.losses import soft_cross_entropy

SPANS = ("start_logits", "end_logits")
NO_ANSWER = "no_answer_logits"
OUTPUTS = ("logits", *SPANS, NO_ANSWER)


def prediction_loss(
    student: Mapping[str, torch.Tensor],
    teacher: Mapping[str, torch.Tensor],
    labels: torch.Tensor | None,
    *,
    regression: bool = False,
    temperature: float = 1.0,
    reduction: str = "batch",
) -> torch.Tensor:
    """What the student's head should have said, by the teacher's.

    Args:
        student, teacher: "logits": of classes or choices [B, N], tags [B, T, N] or a number [B, 1]; or "start_logits"
            and "end_logits" [B, T], with "no_answer_logits" [B] where the student has them.
        labels: of tags: −100 where none was predicted.
        regression: squared error, not cross entropy.
        temperature, reduction: as `soft_cross_entropy`.

    Returns:
        Soft cross entropy, the sum of start's and end's, binary cross entropy for the question whether there is an
        answer added to it; or the mean squared error.
    """
    if SPANS[0] in student:
        loss = sum(soft_cross_entropy(student[name], teacher[name], temperature, reduction) for name in SPANS)
        if student.get(NO_ANSWER) is not None:
            found = student[NO_ANSWER].float() / temperature
            wanted = (teacher[NO_ANSWER].float().view_as(found) / temperature).sigmoid()
            loss = loss + functional.binary_cross_entropy_with_logits(found, wanted)
        return loss
    found, wanted = student["logits"], teacher["logits"]
    if regression:
        return functional.mse_loss(found.float(), wanted.float())
    if found.dim() == 3:
        predicted = labels != IGNORED
        found, wanted = found[predicted], wanted[predicted]  # [tags, N]
    return soft_cross_entropy(found, wanted, temperature, reduction)
