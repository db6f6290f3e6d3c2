"""The flags that experiments on a model have in common."""

from dataclasses import dataclass, field

from bertkernels.errors import InputError
from bertkernels.training.finetune_arguments import FinetuneArguments


@dataclass
class WorkArguments:
    """Who does an experiment's jobs."""

    workers: int = field(
        default=1,
        metadata={"help": "Processes on this machine; its threads are shared among them. Other commands may join."},
    )


@dataclass
class AnalysisArguments(FinetuneArguments, WorkArguments):
    """Which model, on which task, and what is done with it beside the experiment itself.

    The model is `--model_name_or_path`, fine-tuned on the task. With `--do_train` each changed model is also fine-tuned
    and scored again; that takes the flags of `bertkernels finetune`.
    """

    direct: bool = field(default=True, metadata={"help": "Score each changed model as it is, without training."})
    start_model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "What fine-tuning starts from, with a new head, such as the pre-trained model (default: the "
            "fine-tuned one with its head)."
        },
    )
    changes: list[str] | None = field(
        default=None,
        metadata={
            "help": "Changes that the model has before the experiment, such as "
            '"{do: residual, block: 2, part: all, scale: 0}", which cuts skip connections.'
        },
    )
    adapt: bool = field(
        default=False,
        metadata={"help": "Fine-tune the model with its --changes once, before the experiment; kept in its folder."},
    )
    freeze: str | None = field(
        default=None, metadata={"help": "What does not train in fine-tuning: blocks:0-3, part:ffn, embeddings, head, …"}
    )
    save_predictions: bool = field(
        default=True, metadata={"help": "Keep each job's probabilities of labels, for ensembles."}
    )


def check_analysis(arguments: AnalysisArguments) -> None:
    """Raises InputError for flags that do not go together or are out of range."""
    if arguments.model_name_or_path is None:
        raise InputError("--model_name_or_path is missing: the model to analyse")
    for name in ("preset", "from_scratch", "best_on_dev", "early_stopping_patience"):
        if getattr(arguments, name):
            raise InputError(f"--{name} does not go with an analysis of a model that is there")
    if arguments.workers < 1:
        raise InputError(f"--workers must be at least 1, not {arguments.workers}")
    if arguments.adapt and not arguments.changes:
        raise InputError("--adapt is for a model with --changes")
    if arguments.adapt and arguments.start_model_name_or_path:
        raise InputError("--adapt and --start_model_name_or_path do not go together")
