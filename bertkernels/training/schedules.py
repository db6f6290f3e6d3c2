"""Learning-rate schedules that transformers does not have."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def bert_rate(step: int, steps: int, warmup_steps: float, power: float = 1.0) -> float:
    """(1 − step / steps)^power · min(1, step / warmup_steps), 0 from `steps` on.

    The decay runs during warm-up too, so the rate never reaches 1: its peak is (1 − warmup_steps / steps)^power.
    Source: the released code of BERT (Devlin et al., 2019) and ELECTRA (Clark et al., 2020).

    Args:
        step: updates done before this one; the first is 0, where the rate is 0 unless warmup_steps is 0.
    """
    decay = max(0.0, 1 - step / steps) ** power
    return decay * min(1.0, step / warmup_steps) if warmup_steps else decay


def bert_schedule(optimizer: Optimizer, steps: int, warmup_steps: float, power: float = 1.0) -> LambdaLR:
    """A scheduler that multiplies each group's rate by `bert_rate`."""
    return LambdaLR(optimizer, lambda step: bert_rate(step, steps, warmup_steps, power))
