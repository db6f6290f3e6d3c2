"""A labelled task as fine-tuning takes it, from whatever place it is in."""

from dataclasses import dataclass

from bertkernels.data.builtin_task import builtin_task
from bertkernels.data.builtin_text import LIBRARIES
from bertkernels.data.glue import glue_task, read_glue
from bertkernels.data.hub import read_hub
from bertkernels.data.labelled_text import Columns, LabelledText, label_ids, label_names, labelled_text
from bertkernels.data.tables import read_table


@dataclass(frozen=True)
class Task:
    """Training rows, evaluation rows by split name, and the label names in the order of their ids.

    `labels` is None for regression, where the rows' labels are numbers.
    """

    name: str
    train: LabelledText
    evaluation: dict[str, LabelledText]
    labels: list[str] | None
    metric: str  # the one to compare models by

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


def glue_folder_task(glue_dir: str, name: str) -> Task:
    """From a folder of GLUE tasks in their original layout."""
    task = glue_task(name)
    train, evaluation = read_glue(glue_dir, task)
    return Task(task.folder, train, evaluation, list(task.labels) if task.labels else None, task.metric)


def hub_task(name: str, config: str | None, columns: Columns, regression: bool) -> Task:
    """From the Hugging Face hub."""
    train, evaluation = read_hub(name, config, columns, regression)
    return _task(name, train, evaluation, regression)


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
