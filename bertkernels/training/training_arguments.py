"""transformers' TrainingArguments with this package's defaults, and the flags both trainers share."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import TrainingArguments

from bertkernels.errors import InputError
from bertkernels.training.output_folder import LAST

OPTIMIZERS = ("torch", "bert_adam", "early_adamw")
LOSS_REDUCTIONS = ("mean", "sum")


@dataclass
class RunArguments(TrainingArguments):
    """TrainingArguments; TensorBoard is on, checkpoints are kept to the last three."""

    report_to: None | str | list[str] = field(
        default="tensorboard", metadata={"help": "Where to report to: tensorboard, none, or another of transformers'."}
    )
    save_total_limit: int | None = field(default=3, metadata={"help": "Checkpoints to keep, the newest."})
    logging_steps: float = field(default=50, metadata={"help": "Steps between two log lines (below 1: of all steps)."})
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "nargs": "?",
            "const": LAST,
            "help": "Go on where a run stopped: from the last checkpoint in --output_dir, or from the one named here.",
        },
    )
    cuda_graphs: bool = field(
        default=False,
        metadata={
            "help": "Replay training steps as CUDA graphs: faster for small models. Batches are padded to few widths."
        },
    )
    tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Real tokens in a process's batch, at most, in place of --per_device_train_batch_size: for "
            "encoders that run unpadded."
        },
    )
    optimizer: Literal["torch", "bert_adam", "early_adamw"] = field(
        default="torch",
        metadata={
            "help": "torch: AdamW, or what --optim names; bert_adam: BERT's and ELECTRA's, without bias correction and "
            "with epsilon outside the root."
        },
    )
    layerwise_lr_decay: float | None = field(
        default=None,
        metadata={"help": "Factor between the learning rates of a block and the one above; the head keeps the full."},
    )
    bert_schedule: bool = field(
        default=False,
        metadata={
            "help": "Rate × (1 - step / steps)^lr_decay_power × min(1, step / warm-up), as BERT and ELECTRA: the decay "
            "runs during warm-up too. In place of --lr_scheduler_type."
        },
    )
    lr_decay_power: float = field(default=1.0, metadata={"help": "Power of the decay in --bert_schedule."})
    lr_decay_steps: int | None = field(
        default=None,
        metadata={
            "help": "Steps after which the rate of --bert_schedule is 0, where a later run goes on with it (default: "
            "this run's)."
        },
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Write into --output_dir although it is not empty; an earlier run goes."}
    )

    def __post_init__(self) -> None:
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"--optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}")
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise InputError(f"--tokens_per_batch must be at least 1, not {self.tokens_per_batch}")
        if self.layerwise_lr_decay is not None and not 0 < self.layerwise_lr_decay <= 1:
            raise InputError(f"--layerwise_lr_decay must be above 0 and at most 1, not {self.layerwise_lr_decay}")
        if self.lr_decay_steps is not None and self.lr_decay_steps < max(1, self.max_steps):
            raise InputError(f"--lr_decay_steps {self.lr_decay_steps} is below the steps of the run")
        super().__post_init__()


@dataclass
class PretrainRunArguments(RunArguments):
    """RunArguments with defaults for pre-training small models."""

    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.01, metadata={"help": "Decoupled; biases and LayerNorms are left out."})
    adam_epsilon: float = field(default=1e-6, metadata={"help": "Epsilon of AdamW."})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Batch size of one process and step."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Batch size of one process, evaluation."})


@dataclass
class FinetuneRunArguments(RunArguments):
    """RunArguments with defaults for fine-tuning small models."""

    learning_rate: float = field(default=3e-4, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.01, metadata={"help": "Decoupled; biases and LayerNorms are left out."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up steps (below 1: of all steps)."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Batch size of one process and step."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Batch size of one process, evaluation."})
    loss_reduction: Literal["mean", "sum"] = field(
        default="mean",
        metadata={
            "help": "sum: the loss is summed over the batch, as in ELECTRA's fine-tuning, so that --max_grad_norm cuts "
            "nearly every gradient."
        },
    )

    def __post_init__(self) -> None:
        if self.loss_reduction not in LOSS_REDUCTIONS:
            raise InputError(
                f"--loss_reduction must be one of {', '.join(LOSS_REDUCTIONS)}, not {self.loss_reduction!r}"
            )
        super().__post_init__()
