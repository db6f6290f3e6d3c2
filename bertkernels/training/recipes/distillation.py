"""The published distillations: `bertkernels distill --recipe NAME`.

What the originals count (padding too) and how they reduce is an option; a recipe has what weighs losses against each
other, and leaves padding out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Values = Mapping[str, object]
INTERMEDIATE, PREDICTION, ONLY = "intermediate", "prediction", ""


@dataclass(frozen=True)
class DistillationRecipe:
    """Values of flags, and where they are from.

    Attributes:
        what: one line for the list of recipes.
        source: publication and released code.
        student: the student, where no flag says which.
        phases: on a task, in order: each goes on from the student of the one before. Values by flag, and `batch`:
            examples in a step, over all processes and accumulated batches.
        text: the same on text; None: there is no such recipe.
        tasks: by task, what differs in every phase; the only ones beside GLUE's that there are.
        notes: by flag, what is to be said of its value.
    """

    name: str
    what: str
    source: str
    student: Values
    phases: Mapping[str, Values]
    text: Values | None = None
    tasks: Mapping[str, Values] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


_NO_PADDING = "the original counts padding: --losses_at_padding"
_ELEMENTS = "as the original's weights go with it: divided by the number of classes"
_COMMON = {"projection": "shared", "block_map": "uniform"}


def _tinybert(layers: int, width: int, intermediate: int) -> DistillationRecipe:
    """Two phases: states and scores, then what the head says."""
    adam = {"optimizer": "bert_adam", "adam_epsilon": 1e-6, "weight_decay": 0.01, "max_grad_norm": 1.0}
    linear = {"lr_scheduler_type": "linear", "warmup_steps": 0.1}
    states = {"embedding_weight": 1.0, "hidden_weight": 1.0, "attention_weight": 1.0}
    task = {"batch": 32, "max_seq_length": 128, "dataloader_drop_last": True, **adam, **_COMMON}
    phases = {
        INTERMEDIATE: {
            **task,
            **states,
            "logits_weight": 0.0,
            "learning_rate": 5e-5,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0.0,
            "num_train_epochs": 10.0,
        },
        PREDICTION: {
            **task,
            **dict.fromkeys(states, 0.0),
            "logits_weight": 1.0,
            "logits_reduction": "elements",
            "regression_target": "labels",
            "learning_rate": 3e-5,
            **linear,
            "num_train_epochs": 3.0,
            "eval_strategy": "steps",
            "eval_steps": 100.0,
            "best_on_dev": True,
        },
    }
    text = {"batch": 256, **states, "learning_rate": 5e-5, **linear, "num_train_epochs": 3.0, **adam, **_COMMON}
    notes = {
        "hidden_weight": _NO_PADDING,
        "num_train_epochs": "on tasks with augmented rows, which are not made here",
        "max_grad_norm": "of all gradients together; the original's optimizer cuts each on its own",
        "logits_reduction": _ELEMENTS,
    }
    student = {
        "plan": f"{layers}*(attention ffn)",
        "hidden_size": width,
        "num_attention_heads": 12,
        "intermediate_size": intermediate,
    }
    return DistillationRecipe(
        f"tinybert-{layers}",
        f"TinyBERT-{layers}: on text 3 epochs; on GLUE 10 epochs of states and scores, then 3 of logits",
        "Jiao et al. 2020 (arXiv 1909.10351) and its released code",
        student,
        phases,
        text,
        {},
        notes,
    )


def _efficientbert(
    name: str, what: str, student: Values, text_epochs: float | None, notes: Mapping[str, str]
) -> DistillationRecipe:
    """All losses in one phase, the best of frequent evaluations."""
    common = {
        "embedding_weight": 1.0,
        "hidden_weight": 1.0,
        "attention_weight": 1.0,
        **_COMMON,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "seed": 42,
    }
    task = {
        "batch": 32,
        **common,
        "logits_weight": 1.0,
        "logits_reduction": "elements",
        "regression_target": "labels",
        "learning_rate": 5e-5,
        "num_train_epochs": 10.0,
        "max_seq_length": 128,
        "best_on_dev": True,
        "eval_strategy": "steps",
        "eval_steps": 50.0,
    }
    questions = {
        "learning_rate": 1e-4,
        "eval_steps": 500.0,
        "max_query_length": 64,
        "doc_stride": 32,
        "qa_head": "plain",
    }
    tasks = {
        "CoLA": {"num_train_epochs": 50.0},
        "QQP": {"eval_steps": 250.0},
        "squad": questions,
        "squad_v2": questions,
    }
    text = None
    if text_epochs is not None:
        text = {"batch": 256, **common, "learning_rate": 1e-4, "num_train_epochs": text_epochs}
    found = {"hidden_weight": _NO_PADDING, "logits_reduction": _ELEMENTS, **notes}
    source = "Dong et al. 2021 and its released code"
    return DistillationRecipe(name, what, source, student, {ONLY: task}, text, tasks, found)


def _all() -> Iterator[DistillationRecipe]:
    yield _tinybert(4, 312, 1200)
    yield _tinybert(6, 768, 3072)
    warm = {"preset": "the original starts from a supernet that was distilled first: --model_name_or_path"}
    for size in ("tiny", "base", "plusplus"):
        name = f"efficientbert-{size}"
        what = f"{name}: on text 10 epochs; on GLUE (10 epochs, CoLA 50) and SQuAD all losses at once"
        yield _efficientbert(name, what, {"preset": name}, 10.0, warm)
    name = "efficientbert-plus"
    what = f"{name}: on GLUE (10 epochs, CoLA 50) all losses at once, from a student of several tasks"
    start = {"preset": "the original starts from a student that was distilled on several tasks: --model_name_or_path"}
    yield _efficientbert(name, what, {"preset": name}, None, start)
    name = "efficientbert-tinybert6"
    what = f"{name}: on text 3 epochs; on GLUE (10 epochs, CoLA 50) and SQuAD all losses at once"
    yield _efficientbert(name, what, {"preset": name}, 3.0, {})
    what = "TinyBERT-4 as EfficientBERT's authors train it: all losses at once, on GLUE (10 epochs, CoLA 50) and SQuAD"
    general = {"plan": "the original starts from TinyBERT's student of text: --model_name_or_path"}
    yield _efficientbert("efficientbert-tinybert4", what, _tinybert(4, 312, 1200).student, None, general)


RECIPES: dict[str, DistillationRecipe] = {recipe.name: recipe for recipe in _all()}
