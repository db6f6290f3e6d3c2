"""The optimizer that BERT and ELECTRA were trained with."""

from collections.abc import Iterable

import torch

from bertkernels.training.moments_optimizer import MomentsOptimizer


class BertAdam(MomentsOptimizer):
    """Adam without bias correction, epsilon outside the root, decoupled weight decay.

    p ← p − rate · (m / (√v + eps) + weight_decay · p); moments and arguments as `MomentsOptimizer` has them.

    In the first steps, where m and v are still small, it takes steps of another size than `torch.optim.AdamW`: with
    these β about 3.2 times as long in the first.
    Source: the released code of BERT (Devlin et al., 2019), of ELECTRA (Clark et al., 2020) and of what builds on them.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _update(self, parameters: list[torch.Tensor], group: dict, ratios: list[torch.Tensor]) -> None:
        if group["weight_decay"]:
            torch._foreach_add_(ratios, parameters, alpha=group["weight_decay"])
        torch._foreach_mul_(ratios, group["lr"])  # a tensor under some schedulers: no alpha
        torch._foreach_sub_(parameters, ratios)
