"""A loss on the predecessor's logits, beside the task's own."""

from collections.abc import Mapping

import torch
from transformers import PreTrainedConfig

from bertkernels.training.distillation.prediction_loss import prediction_loss


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
        student, teacher, labels: as `prediction_loss` has them.
        config: says whether it is regression.
    """
    if config.problem_type == "regression":
        return prediction_loss(student, teacher, labels, regression=True)
    entropy = prediction_loss(teacher, teacher, labels, temperature=temperature)  # without it the loss ends at 0
    return temperature**2 * (prediction_loss(student, teacher, labels, temperature=temperature) - entropy)
