"""Hyper-parameters of fine-tuning as published, by system, size and task.

Batches are of one process: with several, divide --per_device_train_batch_size yourself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bertkernels.data.glue import TASKS, glue_task
from bertkernels.errors import InputError

Values = Mapping[str, object]


@dataclass(frozen=True)
class FinetuningRecipe:
    """What all tasks have in common, and what differs by task; the source in words."""

    source: str
    values: Values
    tasks: Mapping[str, Values] = field(default_factory=dict)


def _electra(source: str, learning_rate: float) -> FinetuningRecipe:
    """ELECTRA's released fine-tuning code, which ConvBERT and LV-BERT took over."""
    questions = {"max_seq_length": 512, "num_train_epochs": 2}
    return FinetuningRecipe(
        f"{source}; scores are medians of ten runs (--num_seeds 10)",
        {
            "learning_rate": learning_rate,
            "layerwise_lr_decay": 0.8,
            "per_device_train_batch_size": 32,
            "num_train_epochs": 3,
            "warmup_steps": 0.1,
            "bert_schedule": True,
            "optimizer": "bert_adam",
            "adam_epsilon": 1e-6,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "loss_reduction": "sum",
            "max_seq_length": 128,
        },
        {
            "MRPC": {"double_unordered": True},
            "STS-B": {"num_train_epochs": 10, "double_unordered": True, "label_scale": 5.0},
            "RTE": {"num_train_epochs": 10},
            "squad": questions,
            "squad_v2": questions | {"null_score_diff_threshold": -2.75},
            "mrqa": questions,
        },
    )


def _efficientbert(source: str, learning_rate: float, epochs: int, tasks: Mapping[str, Values]) -> FinetuningRecipe:
    return FinetuningRecipe(
        source,
        {
            "learning_rate": learning_rate,
            "per_device_train_batch_size": 32,
            "num_train_epochs": epochs,
            "warmup_steps": 0.1,
            "lr_scheduler_type": "linear",
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "max_seq_length": 128,
            "seed": 42,
            "best_on_dev": True,
        },
        tasks,
    )


def _analysis(model: str, mnli: Values, qqp: Values) -> FinetuningRecipe:
    """Steps instead of epochs, one row a task."""

    def row(batch: int, learning_rate: float, steps: int, warmup: int) -> Values:
        return {
            "per_device_train_batch_size": batch,
            "learning_rate": learning_rate,
            "max_steps": steps,
            "warmup_steps": warmup,
        }

    return FinetuningRecipe(
        f"Of Non-Linearity and Commutativity in BERT (Zhao et al., 2021), released scripts, {model}",
        {
            "optimizer": "bert_adam",
            "adam_epsilon": 1e-6,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "bert_schedule": True,
            "max_seq_length": 128,
        },
        {
            "CoLA": row(16, 1e-5, 5336, 320),
            "SST-2": row(32, 1e-5, 20935, 1256),
            "MRPC": row(32, 2e-5, 800, 200),
            "QQP": row(**{"learning_rate": 5e-5, **qqp}),
            "STS-B": row(16, 2e-5, 3598, 214),
            "MNLI": row(**{"learning_rate": 3e-5, **mnli}),
            "QNLI": row(32, 1e-5, 33112, 1986),
            "RTE": row(32, 3e-5, 800, 200),
            "WNLI": row(8, 2e-5, 800, 200),
        },
    )


RECIPES = {
    "electra-small": _electra("ELECTRA (Clark et al., 2020), small", 3e-4),
    "electra-base": _electra("ELECTRA (Clark et al., 2020), base", 1e-4),
    "convbert-small": _electra("ConvBERT (Jiang et al., 2020), small", 3e-4),
    "convbert-medium-small": _electra("ConvBERT (Jiang et al., 2020), medium-small", 3e-4),
    "convbert-base": _electra("ConvBERT (Jiang et al., 2020), base", 1e-4),
    "lvbert-small": _electra("LV-BERT (Yu et al., 2021), small", 3e-4),
    "lvbert-medium": _electra("LV-BERT (Yu et al., 2021), medium", 3e-4),
    "lvbert-base": _electra("LV-BERT (Yu et al., 2021), base", 1e-4),
    "efficientbert": _efficientbert(
        "EfficientBERT (Dong et al., 2021), students on GLUE",
        5e-5,
        10,
        {name: {"eval_strategy": "steps", "eval_steps": 250 if name == "QQP" else 50} for name in TASKS}
        | {"CoLA": {"eval_strategy": "steps", "eval_steps": 50, "num_train_epochs": 50}},
    ),
    "efficientbert-teacher": _efficientbert("EfficientBERT (Dong et al., 2021), BERT-base as teacher", 3e-5, 3, {}),
    "theseus-predecessor": FinetuningRecipe(
        "BERT-of-Theseus (Xu et al., 2020), the predecessor; scores are medians of five runs (--num_seeds 5)",
        {
            "learning_rate": 2e-5,
            "per_device_train_batch_size": 32,
            "num_train_epochs": 4,
            "warmup_steps": 0,
            "lr_scheduler_type": "linear",
            "adam_epsilon": 1e-8,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "max_seq_length": 128,
        },
        {"QNLI": {"max_seq_length": 256}},
    ),
    "investigate-bert-small": _analysis(
        "BERT-small",
        {"batch": 128, "steps": 10000, "warmup": 1000},
        {"batch": 128, "steps": 14000, "warmup": 1000},
    ),
    "investigate-bert-base": _analysis(
        "BERT-base",
        {"batch": 96, "steps": 12000, "warmup": 1200},
        {"batch": 96, "steps": 19000, "warmup": 1900},
    ),
}


def finetuning_recipe(name: str, task: str | None) -> dict[str, object]:
    """The recipe's values for a task (None: one of the user's own files), as flags are called.

    Raises InputError for an unknown recipe, and where it says nothing of how long to train on that task.
    """
    if name not in RECIPES:
        raise InputError(f"unknown --recipe {name!r} for fine-tuning, expected one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    key = task if task is None or task in recipe.tasks else glue_task(task).folder
    found = {**recipe.values, **recipe.tasks.get(key, {})}
    if "learning_rate" not in found:
        raise InputError(f"--recipe {name} has values for {', '.join(recipe.tasks)} only; give one as --task_name")
    return found
