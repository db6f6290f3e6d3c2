"""The optimizer and the schedule that a run's arguments ask for, beyond what transformers has."""

from collections.abc import Collection

import torch
from torch import nn

from bertkernels.training.bert_adam import BertAdam
from bertkernels.training.early_adamw import EarlyAdamW
from bertkernels.training.parameter_groups import parameter_groups
from bertkernels.training.schedules import bert_schedule
from bertkernels.training.training_arguments import RunArguments

_CLASSES = {"bert_adam": BertAdam, "early_adamw": EarlyAdamW}


def optimizer_settings(
    args: RunArguments, model: nn.Module, decayed: Collection[str], chosen: tuple[type, dict]
) -> tuple[type, dict]:
    """Class and settings of the optimizer.

    Args:
        decayed: names of the parameters that weight decay applies to.
        chosen: what `--optim` says: class and settings.
    """
    cls, settings = chosen
    if args.optimizer in _CLASSES:
        cls = _CLASSES[args.optimizer]
        settings = {
            "betas": (args.adam_beta1, args.adam_beta2),
            "eps": args.adam_epsilon,
            "lr": args.learning_rate,
        }
    if args.layerwise_lr_decay is not None:
        settings["params"] = parameter_groups(
            model, decayed, args.learning_rate, args.weight_decay, args.layerwise_lr_decay
        )
    return cls, settings


def schedule(
    args: RunArguments, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """BERT's schedule where it is asked for; None: transformers' own."""
    if not args.bert_schedule:
        return None
    decayed = args.lr_decay_steps or steps
    return bert_schedule(optimizer, decayed, args.get_warmup_steps(steps), args.lr_decay_power)
