"""Step: pre-train a small ConvBERT on the built-in text, for as many steps as there is time."""

import json
import statistics
import tempfile
import time
from pathlib import Path

from bertkernels.cli.arguments import parse_arguments
from bertkernels.demo.output_folder import ENCODER, PRETRAINED
from bertkernels.demo.progress import Progress, quiet
from bertkernels.demo.settings import Settings
from bertkernels.training.pretrain import PretrainArguments, PretrainResult, pretrain
from bertkernels.training.training_arguments import PretrainRunArguments

_TRIED_STEPS, _SKIPPED_STEPS = 24, 4  # the first ones are slower than the rest
_TRY_SECONDS = 8.0
_LOG_LINES = 40
_MARGIN = 1.05  # a step of the whole run is a little slower than the tried ones: it is logged now and then
_LEAST_STEPS = 5


def pretrain_flags(settings: Settings, output_dir: Path, steps: int) -> list[str]:
    """The options of `bertkernels pretrain` that this step runs with."""
    options = {
        "objective": settings.objective,
        "config_file": settings.output_dir / ENCODER,
        "mask_probability": settings.mask_probability,
        "text_source": "builtin",
        "vocab_size": settings.vocab_size,
        "max_seq_length": settings.max_seq_length,
        "per_device_train_batch_size": settings.pretrain_batch,
        "learning_rate": settings.pretrain_learning_rate,
        "warmup_steps": 0.1,
        "max_steps": steps,
        "seed": settings.seed,
        "output_dir": output_dir,
    }
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def write_encoder(settings: Settings) -> None:
    """Describes the encoder in the demo's folder, in the form that --config_file takes."""
    encoder = {
        "plan": settings.plan,
        "hidden_size": settings.hidden_size,
        "embedding_size": settings.hidden_size,
        "num_attention_heads": settings.num_attention_heads,
        "intermediate_size": settings.intermediate_size,
        "max_position_embeddings": 512,
        # Two minutes see no text often enough to learn it by heart.
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": 0.1,
        "classifier_hidden_act": "gelu",  # as Hugging Face's heads have it, so that the fine-tuned model converts
    }
    (settings.output_dir / ENCODER).write_text(json.dumps(encoder, indent=2) + "\n", encoding="utf-8")


def step_seconds(settings: Settings) -> float:
    """Time of a training step, from a few steps of the same run that are thrown away: their lower quartile.

    Not the median: a moment in which the machine does something else must not leave the run with a handful of steps. A
    run that turns out slower is stopped when its time is up.
    """
    with tempfile.TemporaryDirectory() as folder:
        end = time.monotonic() + _TRY_SECONDS
        progress = Progress(seconds_left=lambda: end - time.monotonic())
        _run(pretrain_flags(settings, Path(folder), _TRIED_STEPS), progress)
    tried = progress.step_seconds[_SKIPPED_STEPS:] or progress.step_seconds
    return statistics.quantiles(tried, n=4, method="inclusive")[0] if len(tried) > 1 else tried[0]


def steps_in(seconds: float, a_step: float, settings: Settings) -> int:
    """How many steps fit."""
    return max(_LEAST_STEPS, min(settings.max_steps, int(seconds / (_MARGIN * a_step))))


def run_pretraining(settings: Settings, steps: int, seconds_left) -> dict:
    """Pre-trains into the demo's folder; stops early where `seconds_left()` falls to nothing."""
    progress = Progress(_describe, seconds_left)
    flags = pretrain_flags(settings, settings.output_dir / PRETRAINED, steps)
    result = _run(flags, progress)
    log = [entry for entry in result.log if "masked_lm_accuracy" in entry]
    return {
        "command": ["bertkernels", "pretrain", *pretrain_flags(settings, Path("pretrained-again"), steps)],
        "plan": settings.plan,
        "hidden_size": settings.hidden_size,
        "parameters": result.parameters,
        "planned_steps": steps,
        "steps": result.steps,
        "batch": settings.pretrain_batch,
        "length": settings.max_seq_length,
        "train_seconds": sum(progress.step_seconds),
        "encoder": str(result.encoder),
        "log": log,
    }


def _run(flags: list[str], progress: Progress) -> PretrainResult:
    steps = int(flags[flags.index("--max_steps") + 1])
    hidden = ["--report_to", "none", "--disable_tqdm", "true", "--save_strategy", "no"]
    hidden += ["--logging_steps", str(max(1, steps // _LOG_LINES))]
    arguments, run = parse_arguments("pretrain", "", flags + hidden, PretrainArguments, PretrainRunArguments)
    with quiet():
        return pretrain(arguments, run, [progress])


def _describe(log: dict) -> str:
    return f"loss {log['loss']:.2f}, {log['masked_lm_accuracy']:.0%} of masked words guessed right"
