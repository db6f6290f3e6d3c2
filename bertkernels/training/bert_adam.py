"""The optimizer that BERT and ELECTRA were trained with."""

from collections.abc import Callable, Iterable

import torch


class BertAdam(torch.optim.Optimizer):
    """Adam without bias correction, epsilon outside the root, decoupled weight decay.

    m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  p ← p − rate · (m / (√v + eps) + weight_decay · p)

    In the first steps, where m and v are still small, it takes steps of another size than `torch.optim.AdamW`: with
    these β about 3.2 times as long in the first.
    Source: the released code of BERT (Devlin et al., 2019), of ELECTRA (Clark et al., 2020) and of what builds on them.

    Args:
        params: parameters, or groups of them with settings of their own.
        lr: the rate; a group's own is multiplied by the schedule alike.
        betas: (β₁, β₂).
        eps: added to the root, not inside it.
        weight_decay: usually 0 for biases and LayerNorms, by a group of their own.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
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
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[torch.Tensor], group: dict) -> None:
        for parameter in parameters:
            if parameter.grad.is_sparse:
                raise RuntimeError("BertAdam does not take sparse gradients")
            state = self.state[parameter]
            if not state:
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        means = [self.state[parameter]["exp_avg"] for parameter in parameters]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        first, second = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        updates = torch._foreach_sqrt(squares)
        torch._foreach_add_(updates, group["eps"])
        torch._foreach_reciprocal_(updates)
        torch._foreach_mul_(updates, means)
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        torch._foreach_mul_(updates, group["lr"])  # a tensor under some schedulers: no alpha
        torch._foreach_sub_(parameters, updates)
