"""GLUE task folders in their original layout (tab-separated, no quoting; CoLA without a header line)."""

import logging
from dataclasses import dataclass
from pathlib import Path

from bertkernels.data.labelled_text import Columns, LabelledText, labelled_text
from bertkernels.data.tables import Record, tsv_rows
from bertkernels.errors import InputError

_logger = logging.getLogger(__name__)
_ENTAILMENT = ("entailment", "not_entailment")


@dataclass(frozen=True)
class GlueTask:
    """One task: its folder, columns, label names in the order of their ids (None: regression) and main metric."""

    folder: str
    columns: Columns
    labels: tuple[str, ...] | None = ("0", "1")
    metric: str = "accuracy"
    header: tuple[str, ...] | None = None  # the column names of a file that has no header line
    dev: tuple[str, ...] = ("dev",)
    # The published file has a few rows that were cut in two; they are passed over with a warning.
    broken_rows: bool = False


TASKS = {
    task.folder: task
    for task in (
        GlueTask(
            "CoLA", Columns("sentence", None, "label"), metric="mcc", header=("source", "label", "mark", "sentence")
        ),
        GlueTask("SST-2", Columns("sentence", None, "label")),
        GlueTask("MRPC", Columns("#1 String", "#2 String", "Quality"), metric="f1"),
        GlueTask("QQP", Columns("question1", "question2", "is_duplicate"), metric="f1", broken_rows=True),
        GlueTask(
            "MNLI",
            Columns("sentence1", "sentence2", "gold_label"),
            ("contradiction", "entailment", "neutral"),
            dev=("dev_matched", "dev_mismatched"),
        ),
        GlueTask("QNLI", Columns("question", "sentence", "label"), _ENTAILMENT),
        GlueTask("RTE", Columns("sentence1", "sentence2", "label"), _ENTAILMENT),
        GlueTask("STS-B", Columns("sentence1", "sentence2", "score"), None, metric="spearman"),
        GlueTask("WNLI", Columns("sentence1", "sentence2", "label")),
    )
}


def glue_task(name: str) -> GlueTask:
    """The task of that name, written as in GLUE or without its hyphen, in any case. Raises InputError otherwise."""
    by_name = {key.replace("-", "").lower(): task for key, task in TASKS.items()}
    task = by_name.get(name.replace("-", "").replace("_", "").lower())
    if task is None:
        raise InputError(f"unknown GLUE task {name!r}, expected one of {', '.join(TASKS)}")
    return task


def read_glue(glue_dir: str | Path, task: GlueTask) -> tuple[LabelledText, dict[str, LabelledText]]:
    """Training rows, and evaluation rows by the name of their split ("dev", or MNLI's two).

    Raises InputError for a missing file, column or label, and a wrong number of fields, naming file and line.
    """
    folder = Path(glue_dir) / task.folder
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: expected the files of {task.folder} there, as GLUE lays them out")
    return _read(folder / "train.tsv", task), {name: _read(folder / f"{name}.tsv", task) for name in task.dev}


def _read(path: Path, task: GlueTask) -> LabelledText:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        rows = list(tsv_rows(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    header = list(task.header) if task.header else rows.pop(0)[1] if rows else []
    broken = [number for number, fields in rows if len(fields) != len(header)]
    if broken and not (task.broken_rows and len(broken) <= len(rows) // 1000):
        found = next(len(fields) for number, fields in rows if number == broken[0])
        raise InputError(f"{path}, line {broken[0]}: {found} fields, expected {len(header)} ({', '.join(header)})")
    if broken:
        _logger.warning("%s: %d broken rows passed over, the first at line %d", path, len(broken), broken[0])
    records = [
        Record(f"{path}, line {number}", dict(zip(header, fields, strict=True)))
        for number, fields in rows
        if len(fields) == len(header)
    ]
    if not records:
        raise InputError(f"{path} is empty: expected rows of {', '.join(header) or 'tab-separated fields'}")
    return labelled_text(records, task.columns, regression=task.labels is None)
