"""The AdamW of early versions of transformers, which BERT-of-Theseus and much else of its time was trained with."""

import math
from collections.abc import Iterable

import torch

from bertkernels.training.moments_optimizer import MomentsOptimizer


class EarlyAdamW(MomentsOptimizer):
    """AdamW with epsilon beside the uncorrected root, and weight decay after the step.

    p ← p − rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + eps);  p ← (1 − rate · weight_decay) · p; moments and arguments as
    `MomentsOptimizer` has them.

    torch's adds epsilon to √(v / (1 − β₂ᵗ)), so that here it weighs 1 / √(1 − β₂ᵗ) as much: with these β 32 times in
    the first step. Source: transformers 2 to 4, `AdamW` with its default correct_bias.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _update(self, parameters: list[torch.Tensor], group: dict, ratios: list[torch.Tensor]) -> None:
        first, second = group["betas"]
        corrections = []
        for parameter in parameters:
            # t is each parameter's own, and on the CPU, as torch's own optimizers have it
            step = self.state[parameter].setdefault("step", torch.zeros(())).add_(1).item()
            corrections.append(math.sqrt(1 - second**step) / (1 - first**step))
        torch._foreach_mul_(ratios, corrections)
        torch._foreach_mul_(ratios, group["lr"])  # a tensor under some schedulers
        torch._foreach_sub_(parameters, ratios)
        if group["weight_decay"]:
            decays = torch._foreach_mul(parameters, group["weight_decay"])
            torch._foreach_mul_(decays, group["lr"])
            torch._foreach_sub_(parameters, decays)
