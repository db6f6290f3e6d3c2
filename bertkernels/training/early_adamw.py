"""The AdamW of early versions of transformers, which BERT-of-Theseus and much else of its time was trained with."""

import math
from collections.abc import Callable, Iterable

import torch


class EarlyAdamW(torch.optim.Optimizer):
    """AdamW with epsilon beside the uncorrected root, and weight decay after the step.

    m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  p ← p − rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + eps);
    p ← (1 − rate · weight_decay) · p

    torch's adds epsilon to √(v / (1 − β₂ᵗ)), so that here it weighs 1 / √(1 − β₂ᵗ) as much: with these β 32 times in
    the first step. Source: transformers 2 to 4, `AdamW` with its default correct_bias.

    Args:
        params: parameters, or groups of them with settings of their own.
        lr: the rate. betas: (β₁, β₂). eps: added to √v. weight_decay: usually 0 for biases and LayerNorms.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError(f"lr, eps and weight_decay must not be negative, got {lr}, {eps} and {weight_decay}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be at least 0 and below 1, got {betas}")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # on the CPU, as torch's own optimizers have it
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.mul_(first).add_(parameter.grad, alpha=1 - first)
        square.mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
        step = state["step"].item()
        correction = math.sqrt(1 - second**step) / (1 - first**step)
        update = mean / square.sqrt().add_(group["eps"])
        # the rate may be a tensor
        parameter.sub_(update * (group["lr"] * correction))
        if group["weight_decay"]:
            parameter.sub_(parameter * (group["lr"] * group["weight_decay"]))
