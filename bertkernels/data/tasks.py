"""A labelled task as fine-tuning takes it, from whatever place it is in."""

from dataclasses import dataclass, field, replace

from bertkernels.data.builtin_task import builtin_task
from bertkernels.data.builtin_text import LIBRARIES
from bertkernels.data.glue import GlueTask, glue_task, read_glue, read_glue_test
from bertkernels.data.glue_hub import HUB_NAMES, read_glue_hub, read_glue_hub_test
from bertkernels.data.hub import read_hub, read_hub_test
from bertkernels.data.labelled_text import (
    Columns,
    LabelledText,
    label_ids,
    label_names,
    labelled_text,
    unlabelled_text,
)
from bertkernels.data.tables import read_table
from bertkernels.errors import InputError


@dataclass(frozen=True)
class Task:
    """Rows, and the label names in the order of their ids: training and evaluation rows, or rows to predict.

    `labels` is None for regression, where the rows' labels are numbers, and empty where only a model knows them.
    """

    name: str
    train: LabelledText | None
    evaluation: dict[str, LabelledText]  # by the name of their split
    labels: list[str] | None
    metric: str  # the one to compare models by
    combined: tuple[str, ...] = ()  # metrics whose mean is the metric combined_score
    test: dict[str, LabelledText] = field(default_factory=dict)  # by the name of their split, or of GLUE's file
    glue: bool = False  # whether predictions go to GLUE's leaderboard

    def with_swapped_pairs(self) -> "Task":
        """The task with each training pair in both orders. Raises InputError where the rows are no pairs."""
        if self.train.seconds is None:
            raise InputError(
                f"{self.train.places[0]}: a single text has no order to swap, --double_unordered needs pairs"
            )
        return replace(self, train=self.train.with_swapped_pairs())

    def targets(self, rows: LabelledText) -> list[int] | list[float]:
        """The rows' labels as the model takes them. Raises InputError for one that training does not know."""
        return list(rows.labels) if self.labels is None else label_ids(rows, self.labels)


def files_task(train_file: str, validation_file: str | None, columns: Columns, regression: bool) -> Task:
    """From TSV, CSV, JSON or JSON lines files; the labels are those of the training file."""
    train = labelled_text(read_table(train_file), columns, regression)
    evaluation = {}
    if validation_file is not None:
        evaluation["dev"] = labelled_text(read_table(validation_file), columns, regression)
    return _task("files", train, evaluation, regression)


def files_to_predict(test_file: str, columns: Columns) -> Task:
    """From a file as `files_task` takes it, with or without labels."""
    return _unlabelled("files", {"test": unlabelled_text(read_table(test_file), columns)})


def glue_folder_task(glue_dir: str, name: str, double_unordered: bool = False) -> Task:
    """From a folder of GLUE tasks in their original layout; with `double_unordered` MRPC's and STS-B's training pairs
    come in both orders."""
    task = glue_task(name)
    return _glue(task, *read_glue(glue_dir, task), double_unordered)


def glue_folder_to_predict(glue_dir: str, name: str) -> Task:
    """The test rows in such a folder."""
    task = glue_task(name)
    return _glue_test(task, read_glue_test(glue_dir, task))


def glue_hub_task(dataset: str, name: str, double_unordered: bool = False) -> Task:
    """As `glue_folder_task`, from the hub's copy of GLUE."""
    task = _hub_glue_task(dataset, name)
    return _glue(task, *read_glue_hub(dataset, task), double_unordered)


def glue_hub_to_predict(dataset: str, name: str) -> Task:
    """The test rows in the hub's copy of GLUE."""
    task = _hub_glue_task(dataset, name)
    return _glue_test(task, read_glue_hub_test(dataset, task))


def hub_task(name: str, config: str | None, columns: Columns, regression: bool) -> Task:
    """From the Hugging Face hub."""
    train, evaluation = read_hub(name, config, columns, regression)
    return _task(name, train, evaluation, regression)


def hub_to_predict(name: str, config: str | None, columns: Columns) -> Task:
    """The test rows of a set on the Hugging Face hub."""
    return _unlabelled(name, read_hub_test(name, config, columns))


def builtin_library_task(seed: int = 0) -> Task:
    """Built-in text: which library does a paragraph document?"""
    train, dev = builtin_task(seed)
    return Task("builtin", _rows(train, "train"), {"dev": _rows(dev, "dev")}, list(LIBRARIES), "accuracy")


def _rows(examples: list[tuple[str, str]], split: str) -> LabelledText:
    texts, labels = zip(*examples, strict=True)
    places = [f"built-in task, {split} row {number}" for number in range(len(examples))]
    return LabelledText(list(texts), None, list(labels), places)


def _task(name: str, train: LabelledText, evaluation: dict[str, LabelledText], regression: bool) -> Task:
    if regression:
        return Task(name, train, evaluation, None, "spearman")
    return Task(name, train, evaluation, label_names(train), "accuracy")


def _unlabelled(name: str, test: dict[str, LabelledText]) -> Task:
    return Task(name, None, {}, [], "accuracy", test=test)


def _hub_glue_task(dataset: str, name: str) -> GlueTask:
    if dataset not in HUB_NAMES:
        raise InputError(f"--task_name {name} goes with --dataset_name {HUB_NAMES[-1]}, not {dataset}")
    return glue_task(name)


def _glue(task: GlueTask, train: LabelledText, evaluation: dict[str, LabelledText], double_unordered: bool) -> Task:
    labels = list(task.labels) if task.labels else None
    read = Task(task.folder, train, evaluation, labels, task.metric, task.combined, glue=True)
    return read.with_swapped_pairs() if double_unordered and task.unordered else read


def _glue_test(task: GlueTask, test: dict[str, LabelledText]) -> Task:
    labels = list(task.labels) if task.labels else None
    return Task(task.folder, None, {}, labels, task.metric, task.combined, test, glue=True)
