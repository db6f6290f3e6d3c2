"""Step: fine-tune on the built-in task, with and without pre-training."""

from pathlib import Path

from bertkernels.cli.arguments import parse_arguments
from bertkernels.demo.output_folder import FINETUNED, FROM_SCRATCH
from bertkernels.demo.progress import Progress, quiet
from bertkernels.demo.settings import Settings
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.training_arguments import FinetuneRunArguments

_LOG_LINES = 40


def finetune_flags(settings: Settings, model: Path, output_dir: Path, from_scratch: bool) -> list[str]:
    """The options of `bertkernels finetune` that this step runs with."""
    options = {
        "model_name_or_path": model,
        "text_source": "builtin",
        "max_train_samples": settings.labelled_examples,
        "max_seq_length": settings.max_seq_length,
        "num_train_epochs": settings.finetune_epochs,
        "per_device_train_batch_size": settings.finetune_batch,
        "learning_rate": settings.finetune_learning_rate,
        "seed": settings.seed,
        "output_dir": output_dir,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [*flags, "--from_scratch"] if from_scratch else flags


def run_finetuning(settings: Settings, encoder: Path) -> dict:
    """Fine-tunes twice with the same budget: from the pre-trained weights, and from random ones."""
    runs = {}
    for name, folder, from_scratch in (("pretrained", FINETUNED, False), ("from_scratch", FROM_SCRATCH, True)):
        flags = finetune_flags(settings, encoder, settings.output_dir / folder, from_scratch)
        what = "without pre-training" if from_scratch else "from the pre-trained encoder"
        print(f"  {what} ...", flush=True)
        steps = -(-settings.labelled_examples // settings.finetune_batch) * settings.finetune_epochs
        hidden = ["--report_to", "none", "--disable_tqdm", "true", "--save_strategy", "no"]
        hidden += ["--logging_steps", str(max(1, steps // _LOG_LINES))]
        arguments, run = parse_arguments("finetune", "", flags + hidden, FinetuneArguments, FinetuneRunArguments)
        again = Path(f"{folder}-again")
        progress = Progress(lambda log: f"loss {log['loss']:.2f}")
        with quiet():
            result = finetune(arguments, run, [progress])
        metrics = result.metrics
        print(f"  {what}: accuracy {metrics['eval_accuracy']:.1%}", flush=True)
        runs[name] = {
            "command": ["bertkernels", "finetune", *finetune_flags(settings, encoder, again, from_scratch)],
            "accuracy": metrics["eval_accuracy"],
            "train_seconds": sum(progress.step_seconds),
            "log": [entry for entry in result.log if "loss" in entry],
        }
    majority = metrics["eval_majority_accuracy"]
    print(f"  always the most frequent class: {majority:.1%}")
    return {
        "labelled_examples": settings.labelled_examples,
        "epochs": settings.finetune_epochs,
        "majority_accuracy": majority,
        **runs,
    }
