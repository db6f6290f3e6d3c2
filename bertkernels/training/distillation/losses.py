"""Distillation losses as functions of tensors: hidden states, attention scores before their softmax, logits.

Sources: TinyBERT (Jiao et al. 2020, §3), EfficientBERT (Dong et al. 2021) and their released code. There, losses on
states count padding, and the one on logits is divided by the number of classes. Here both are options.
"""

import torch
from torch.nn import functional

REDUCTIONS = ("batch", "elements")
_MASKED = -100.0  # scores from here on down count as masked in the originals


def soft_cross_entropy(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0, reduction: str = "batch"
) -> torch.Tensor:
    """−Σ softmax(teacher / t) · log softmax(student / t) over the last dimension, in fp32.

    There is no factor t², as in the originals.

    Args:
        student, teacher: logits […, N].
        reduction: "batch": the mean over everything but N. "elements": the mean over N too, as in the originals.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    wanted = (teacher.float() / temperature).softmax(-1)
    losses = -wanted * (student.float() / temperature).log_softmax(-1)  # […, N]
    return losses.mean() if reduction == "elements" else losses.sum(-1).mean()


def hidden_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of states of one shape […, C], in fp32; what counts is what is given. 0 of none."""
    return (student.float() - teacher.float()).square().sum() / max(1, student.numel())


def attention_loss(
    student: torch.Tensor, teacher: torch.Tensor, real: torch.Tensor | None = None, at_padding: bool = False
) -> torch.Tensor:
    """The mean squared difference of attention scores before their softmax, in fp32.

    Args:
        student, teacher: query · keyᵀ / √D [B, H, T, T], without a mask added to them.
        real: bool [B, T]; None: all tokens are.
        at_padding: False: the mean over pairs of real tokens. True: over all pairs, with scores of masked keys, and
            scores of −100 and below, as zeros, as in the originals.
    """
    student, teacher = student.float(), teacher.float()
    if at_padding:
        student, teacher = (_without_masked(scores, real) for scores in (student, teacher))
        return functional.mse_loss(student, teacher)
    if real is None:
        return functional.mse_loss(student, teacher)
    pairs = (real[:, :, None] & real[:, None, :])[:, None]  # [B, 1, T, T]
    squares = (student - teacher).masked_fill(~pairs, 0).square()
    return squares.sum() / (pairs.sum() * student.shape[1]).clamp(min=1)


def _without_masked(scores: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
    masked = scores <= _MASKED
    if real is not None:
        masked = masked | ~real[:, None, None, :]
    return scores.masked_fill(masked, 0)
