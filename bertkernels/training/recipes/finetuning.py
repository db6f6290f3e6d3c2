"""The published fine-tunings, by system, size and task: `bertkernels finetune --recipe NAME`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bertkernels.data.glue import TRAINED

Values = Mapping[str, object]


@dataclass(frozen=True)
class FinetuningRecipe:
    """Values of flags, and where they are from.

    Attributes:
        what: one line for the list of recipes.
        source: publication and released code.
        batch: examples in a step, over all processes and accumulated batches.
        values: by flag, of every task.
        tasks: by task, what differs: flags, and `batch`.
        notes: by flag, what is to be said of its value.
    """

    name: str
    what: str
    source: str
    batch: int
    values: Values
    tasks: Mapping[str, Values] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


_COMMON = {"max_grad_norm": 1.0, "max_seq_length": 128}
_BERT_ADAM = {"optimizer": "bert_adam", "adam_epsilon": 1e-6, "weight_decay": 0.01, "bert_schedule": True}


def _electra(name: str, source: str, learning_rate: float, runs: str) -> FinetuningRecipe:
    """ELECTRA's released fine-tuning code, which ConvBERT and LV-BERT took over."""
    values = {
        "learning_rate": learning_rate,
        "layerwise_lr_decay": 0.8,
        "num_train_epochs": 3.0,
        "warmup_steps": 0.1,
        **_BERT_ADAM,
        "loss_reduction": "sum",
        **_COMMON,
    }
    notes = {"num_train_epochs": runs}
    questions = {"max_seq_length": 512, "num_train_epochs": 2.0}
    tasks = {
        "MRPC": {"double_unordered": True},
        "STS-B": {"num_train_epochs": 10.0, "double_unordered": True, "label_scale": 5.0},
        "RTE": {"num_train_epochs": 10.0},
        "squad": questions,
        "squad_v2": {**questions, "null_score_diff_threshold": -2.75},
        "mrqa": questions,
        "chunk": {"max_seq_length": 256},
    }
    what = f"{name} on GLUE, chunks and questions: 3 epochs (STS-B, RTE 10; questions 2), rates falling by 0.8 a layer"
    return FinetuningRecipe(name, what, f"{source} and its released code", 32, values, tasks, notes)


def _efficientbert(
    name: str, what: str, learning_rate: float, epochs: float, tasks: dict[str, Values]
) -> FinetuningRecipe:
    values = {
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.01,
        **_COMMON,
        "best_on_dev": True,
        "seed": 42,
    }
    return FinetuningRecipe(name, what, "Dong et al. 2021 and its released code", 32, values, tasks)


def _students() -> dict[str, Values]:
    """Evaluations every so many steps, whose best model is kept."""
    often = {name: {"eval_strategy": "steps", "eval_steps": 250.0 if name == "QQP" else 50.0} for name in TRAINED}
    return {**often, "CoLA": {**often["CoLA"], "num_train_epochs": 50.0}}


def _analysis(size: str, mnli: Values, qqp: Values) -> FinetuningRecipe:
    """Steps in place of epochs, and a row of its own for each task."""
    name = f"investigate-bert-{size}"
    values = {**_BERT_ADAM, **_COMMON}
    tasks = {
        "CoLA": _row(16, 1e-5, 5336, 320),
        "SST-2": _row(32, 1e-5, 20935, 1256),
        "MRPC": _row(32, 2e-5, 800, 200),
        "QQP": qqp,
        "STS-B": _row(16, 2e-5, 3598, 214),
        "MNLI": mnli,
        "QNLI": _row(32, 1e-5, 33112, 1986),
        "RTE": _row(32, 3e-5, 800, 200),
        "WNLI": _row(8, 2e-5, 800, 200),
    }
    source = "Zhao et al. 2021 (arXiv 2101.04547) and its released scripts"
    return FinetuningRecipe(name, f"BERT-{size} on GLUE, in steps by task, the last model", source, 32, values, tasks)


def _row(batch: int, learning_rate: float, max_steps: int, warmup_steps: int) -> Values:
    return {"batch": batch, "learning_rate": learning_rate, "max_steps": max_steps, "warmup_steps": float(warmup_steps)}


def _all() -> Iterator[FinetuningRecipe]:
    electra, convbert = "Clark et al. 2020 (arXiv 2003.10555)", "Jiang et al. 2020 (arXiv 2008.02496)"
    lvbert = "Yu et al. 2021 (arXiv 2106.11740)"
    ten = "reported scores are medians of ten such runs: --num_seeds 10"
    unknown = "of how many such runs the reported scores are was not published"
    yield _electra("electra-small", electra, 3e-4, ten)
    yield _electra("electra-base", electra, 1e-4, ten)
    yield _electra("convbert-small", convbert, 3e-4, unknown)
    yield _electra("convbert-medium-small", convbert, 3e-4, unknown)
    yield _electra("convbert-base", convbert, 1e-4, unknown)
    yield _electra("lvbert-small", lvbert, 3e-4, ten)
    yield _electra("lvbert-medium", lvbert, 3e-4, ten)
    yield _electra("lvbert-base", lvbert, 1e-4, ten)
    students = "EfficientBERT's students on GLUE: 10 epochs (CoLA 50), the best of frequent evaluations"
    yield _efficientbert("efficientbert", students, 5e-5, 10.0, _students())
    teacher = "EfficientBERT's teacher, BERT-base on GLUE: 3 epochs, the best evaluation"
    yield _efficientbert("efficientbert-teacher", teacher, 3e-5, 3.0, {})
    predecessor = {
        "learning_rate": 2e-5,
        "num_train_epochs": 4.0,
        "warmup_steps": 0.0,
        "lr_scheduler_type": "linear",
        "adam_epsilon": 1e-8,
        "weight_decay": 0.0,
        **_COMMON,
    }
    source = "Xu et al. 2020 (arXiv 2002.02925) and its released code"
    notes = {
        "num_train_epochs": "reported scores are medians of five such runs: --num_seeds 5",
        "warmup_steps": "the released code's default",
        "weight_decay": "the released code's default",
    }
    what = "the model that BERT-of-Theseus compresses, on GLUE: 4 epochs"
    longer = {"QNLI": {"max_seq_length": 256}}
    yield FinetuningRecipe("theseus-predecessor", what, source, 32, predecessor, longer, notes)
    yield _analysis("small", _row(128, 3e-5, 10_000, 1000), _row(128, 5e-5, 14_000, 1000))
    yield _analysis("base", _row(96, 3e-5, 12_000, 1200), _row(96, 5e-5, 19_000, 1900))


RECIPES: dict[str, FinetuningRecipe] = {recipe.name: recipe for recipe in _all()}
