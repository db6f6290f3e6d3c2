"""The flags of compression by module replacing, beside those of fine-tuning."""

from dataclasses import dataclass, field
from typing import Literal

from bertkernels.errors import InputError
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.theseus.rates import (
    AntiCurriculumRate,
    ConstantRate,
    LinearRate,
    ReplacementRate,
    read_listed_rates,
)
from bertkernels.training.training_arguments import FinetuneRunArguments

CONSTANT, LINEAR, ANTI_CURRICULUM, LISTED = "constant", "linear", "anti_curriculum", "list"
CLIP_TRAINED, CLIP_ORIGINAL = "trained", "original"


@dataclass
class TheseusArguments(FinetuneArguments):
    """What to compress (`--model_name_or_path`, fine-tuned on the task), and how."""

    successor_blocks: str | None = field(
        default=None,
        metadata={
            "help": "How many modules, of equally many blocks of the predecessor each, or the blocks of each module: "
            '"0-1 2-3 4-7 8-11".'
        },
    )
    successor_plan: str | None = field(
        default=None,
        metadata={"help": "The successor's blocks, equally many for each module (default: blocks like those copied)."},
    )
    successor_init: str | None = field(
        default=None,
        metadata={
            "help": "first (default): the predecessor's first blocks, as in the released code; every: the last blocks "
            "of each module; fresh: random weights; or a folder: the blocks of a model, also of a checkpoint of the "
            "released code."
        },
    )
    replacing_rate: float | None = field(
        default=None,
        metadata={"help": "Probability that a module is replaced in a batch; the first, where a schedule raises it."},
    )
    scheduler_type: Literal["none", "constant", "linear", "anti_curriculum", "list"] = field(
        default=CONSTANT,
        metadata={
            "help": "constant (or none): --replacing_rate, for --steps_for_replacing; linear: rising by "
            "--scheduler_linear_k a step; anti_curriculum: 1 - the linear one; list: --replacing_rates. Once the rate "
            "is 1, the successor alone is trained."
        },
    )
    scheduler_linear_k: float | None = field(default=None, metadata={"help": "How much the linear rate rises a step."})
    steps_for_replacing: int | None = field(
        default=None,
        metadata={
            "help": "Constant: steps at --replacing_rate, then 1 (default: for ever); linear: the step at which it "
            "reaches 1, in place of --scheduler_linear_k."
        },
    )
    replacing_rates: list[str] | None = field(
        default=None, metadata={"help": "With --scheduler_type list: steps and rates from them on, 0:0.3 500:0.6 …"}
    )
    successor_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Peak rate of the successor-only phase, falling linearly to 0 from where the rate reaches 1 to the "
            "end (default: the schedule goes on)."
        },
    )
    clip: Literal["trained", "original"] = field(
        default=CLIP_TRAINED,
        metadata={
            "help": "What --max_grad_norm cuts by: the norm over what is trained, or as in the released code over the "
            "gradients of predecessor, embeddings and head too, which are computed for nothing else."
        },
    )
    train_head: bool = field(default=False, metadata={"help": "Train pooler and head too."})
    train_embeddings: bool = field(default=False, metadata={"help": "Train the embeddings too."})
    distillation_weight: float = field(
        default=0.0, metadata={"help": "Of a loss on the predecessor's logits; the rest is the task's loss."}
    )
    distillation_temperature: float = field(default=1.0, metadata={"help": "Both logits are divided by this."})
    module_table: bool = field(
        default=True, metadata={"help": "At the end, evaluate the predecessor with each module replaced alone."}
    )
    measure_seconds: float = field(
        default=2.0, metadata={"help": "At the end, time predecessor and successor for so long; 0: not at all."}
    )


@dataclass
class TheseusRunArguments(FinetuneRunArguments):
    """FinetuneRunArguments with the released code's optimizer: AdamW without decay, a rate that falls linearly."""

    learning_rate: float = field(default=2e-5, metadata={"help": "Peak learning rate (published: 1e-5 or 2e-5)."})
    weight_decay: float = field(default=0.0, metadata={"help": "Decoupled; biases and LayerNorms are left out."})
    warmup_steps: float = field(default=0.0, metadata={"help": "Warm-up steps (below 1: of all steps)."})


def replacement_rate(arguments: TheseusArguments) -> ReplacementRate:
    """The schedule that the flags ask for. Raises InputError for values out of range or that don't go together."""
    kind = CONSTANT if arguments.scheduler_type == "none" else arguments.scheduler_type
    base, k, steps = arguments.replacing_rate, arguments.scheduler_linear_k, arguments.steps_for_replacing
    if kind == LISTED:
        if not arguments.replacing_rates:
            raise InputError("--scheduler_type list needs --replacing_rates")
        for name in ("replacing_rate", "scheduler_linear_k", "steps_for_replacing"):
            if getattr(arguments, name) is not None:
                raise InputError(f"--{name} does not go with --scheduler_type list")
        return read_listed_rates(arguments.replacing_rates)
    if arguments.replacing_rates:
        raise InputError("--replacing_rates goes with --scheduler_type list")
    if base is None:
        raise InputError("--replacing_rate is missing")
    if kind == CONSTANT:
        if k is not None:
            raise InputError("--scheduler_linear_k goes with --scheduler_type linear or anti_curriculum")
        return ConstantRate(base, steps)
    if (k is None) == (steps is None):
        raise InputError(f"--scheduler_type {kind} needs --scheduler_linear_k or --steps_for_replacing, one of them")
    if steps is not None:
        ConstantRate(base, steps)  # checks both
        k = (1 - base) / steps
    return LinearRate(base, k) if kind == LINEAR else AntiCurriculumRate(base, k)


def check_theseus(arguments: TheseusArguments, run: FinetuneRunArguments) -> None:
    """Raises InputError for flags out of range, and for what steps that differ from each other rule out."""
    for name in ("preset", "from_scratch"):
        if getattr(arguments, name):
            raise InputError(f"--{name} does not go with compression, which needs a fine-tuned --model_name_or_path")
    if arguments.model_name_or_path is None:
        raise InputError("--model_name_or_path, the fine-tuned predecessor, is missing")
    if not 0 <= arguments.distillation_weight <= 1:
        raise InputError(f"--distillation_weight must be from 0 to 1, not {arguments.distillation_weight}")
    if not arguments.distillation_temperature > 0:
        raise InputError(f"--distillation_temperature must be above 0, not {arguments.distillation_temperature}")
    if arguments.successor_learning_rate is not None and not arguments.successor_learning_rate > 0:
        raise InputError(f"--successor_learning_rate must be above 0, not {arguments.successor_learning_rate}")
    if arguments.measure_seconds < 0:
        raise InputError(f"--measure_seconds must not be negative, got {arguments.measure_seconds}")
    if arguments.distillation_weight and run.loss_reduction == "sum":
        raise InputError("--distillation_weight goes with --loss_reduction mean")
    for flag in ("cuda_graphs", "torch_compile", "deepspeed", "fsdp", "bf16_full_eval", "fp16_full_eval"):
        if getattr(run, flag):
            raise InputError(f"--{flag} does not go with compression, whose steps run other blocks each")
    if run.fp16 and arguments.clip == CLIP_ORIGINAL:
        raise InputError("--clip original does not go with --fp16, which scales gradients: use --bf16")
    if run.n_gpu > 1:
        raise InputError("one process sees several GPUs: start one a GPU, with torchrun or accelerate launch")
