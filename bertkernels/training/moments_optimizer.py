"""What the optimizers of BERT's time have in common, which torch does not have: epsilon beside the uncorrected root."""

from collections.abc import Callable, Iterable

import torch


class MomentsOptimizer(torch.optim.Optimizer):
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²; subclasses take a step by m / (√v + eps).

    Args:
        params: parameters, or groups of them with settings of their own.
        lr: the rate; a group's own is multiplied by the schedule alike.
        betas: (β₁, β₂).
        eps: added to the root, not inside it.
        weight_decay: usually 0 for biases and LayerNorms, by a group of their own.

    Raises:
        ValueError: settings out of range.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
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
                self._update(parameters, group, self._ratios(parameters, group))
        return loss

    def _update(self, parameters: list[torch.Tensor], group: dict, ratios: list[torch.Tensor]) -> None:
        """Moves the parameters, given m / (√v + eps) of each, which it may write over."""
        raise NotImplementedError

    def _ratios(self, parameters: list[torch.Tensor], group: dict) -> list[torch.Tensor]:
        for parameter in parameters:
            if parameter.grad.is_sparse:
                raise RuntimeError(f"{type(self).__name__} does not take sparse gradients")
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
        ratios = torch._foreach_sqrt(squares)
        torch._foreach_add_(ratios, group["eps"])
        torch._foreach_reciprocal_(ratios)
        torch._foreach_mul_(ratios, means)
        return ratios
