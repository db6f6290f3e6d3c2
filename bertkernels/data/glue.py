"""GLUE's tasks, and their folders in the original layout (tab-separated, no quoting; CoLA without a header line)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertkernels.data.labelled_text import Columns, LabelledText, labelled_text, unlabelled_text
from bertkernels.data.tables import Record, tsv_rows
from bertkernels.errors import InputError

_logger = logging.getLogger(__name__)
_ENTAILMENT = ("entailment", "not_entailment")
_INFERENCE = ("contradiction", "entailment", "neutral")


@dataclass(frozen=True)
class GlueTask:
    """One task.

    Attributes:
        labels: names in the order of their ids, as the files and the leaderboard write them; None: regression.
        metric: the one to compare models by, also the task's share of the GLUE average.
        combined: metrics whose mean is reported as `combined_score`.
        header: column names of training and dev files that have no header line.
        dev: names of the dev files without `.tsv`.
        test: where the rows of each file of predictions are, by that file's name without `.tsv`: paths in the folder of
            all tasks, of which the first that is there counts. None: its own name, and test.tsv in its folder.
        unordered: whether a pair's order means nothing.
        broken_rows: whether the published training file has a few rows that were cut in two; they are passed over with
            a warning.
    """

    folder: str
    columns: Columns
    labels: tuple[str, ...] | None = ("0", "1")
    metric: str = "accuracy"
    combined: tuple[str, ...] = ()
    header: tuple[str, ...] | None = None
    dev: tuple[str, ...] = ("dev",)
    test: dict[str, tuple[str, ...]] | None = None
    unordered: bool = False
    broken_rows: bool = False

    @property
    def test_files(self) -> dict[str, tuple[str, ...]]:
        return self.test or {self.folder: (f"{self.folder}/test.tsv",)}


TASKS = {
    task.folder: task
    for task in (
        GlueTask(
            "CoLA", Columns("sentence", None, "label"), metric="mcc", header=("source", "label", "mark", "sentence")
        ),
        GlueTask("SST-2", Columns("sentence", None, "label")),
        GlueTask(
            "MRPC",
            Columns("#1 String", "#2 String", "Quality"),
            metric="combined_score",
            combined=("accuracy", "f1"),
            test={"MRPC": ("MRPC/test.tsv", "MRPC/msr_paraphrase_test.txt")},
            unordered=True,
        ),
        GlueTask(
            "QQP",
            Columns("question1", "question2", "is_duplicate"),
            metric="combined_score",
            combined=("accuracy", "f1"),
            broken_rows=True,
        ),
        GlueTask(
            "STS-B",
            Columns("sentence1", "sentence2", "score"),
            None,
            metric="combined_score",
            combined=("pearson", "spearman"),
            unordered=True,
        ),
        GlueTask(
            "MNLI",
            Columns("sentence1", "sentence2", "gold_label"),
            _INFERENCE,
            dev=("dev_matched", "dev_mismatched"),
            test={"MNLI-m": ("MNLI/test_matched.tsv",), "MNLI-mm": ("MNLI/test_mismatched.tsv",)},
        ),
        GlueTask("QNLI", Columns("question", "sentence", "label"), _ENTAILMENT),
        GlueTask("RTE", Columns("sentence1", "sentence2", "label"), _ENTAILMENT),
        GlueTask("WNLI", Columns("sentence1", "sentence2", "label")),
        # The diagnostic set: predicted with a model of MNLI. Programs put its file in different folders.
        GlueTask(
            "AX",
            Columns("sentence1", "sentence2", None),
            _INFERENCE,
            dev=(),
            test={
                "AX": (
                    "AX/diagnostic.tsv",
                    "AX/AX.tsv",
                    "AX/test.tsv",
                    "diagnostic/diagnostic.tsv",
                    "MNLI/diagnostic.tsv",
                )
            },
        ),
    )
}
TRAINED = tuple(name for name, task in TASKS.items() if task.dev)  # all but AX


def glue_task(name: str) -> GlueTask:
    """The task of that name, written as in GLUE or without its hyphen, in any case. Raises InputError otherwise."""
    by_name = {key.replace("-", "").lower(): task for key, task in TASKS.items()}
    task = by_name.get(name.replace("-", "").replace("_", "").lower())
    if task is None:
        raise InputError(f"unknown GLUE task {name!r}, expected one of {', '.join(TASKS)}")
    return task


def task_names(names: str, every: Sequence[str]) -> list[str]:
    """The tasks of a flag: one name as it is, whatever kind of task it is of; several of GLUE's with commas between
    them; "all" for `every`. Raises InputError for one of several that is none of GLUE's, or that stands twice."""
    if names == "all":
        return list(every)
    if "," not in names:
        return [names]
    found = [glue_task(name.strip()).folder for name in names.split(",")]
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise InputError(f"--task_name {names}: {twice[0]} stands there twice")
    return found


def check_glue_folders(glue_dir: str | Path, names: Sequence[str]) -> None:
    """Raises InputError naming each of the tasks that cannot be trained on, or has no folder there."""
    tasks = [glue_task(name) for name in names]
    for task in tasks:
        check_trained(task)
    lacking = [task.folder for task in tasks if not Path(glue_dir, task.folder).is_dir()]
    if lacking:
        raise InputError(f"{glue_dir} has no folder {', '.join(lacking)}: name the tasks that it has with --task_name")


def check_trained(task: GlueTask) -> None:
    """Raises InputError for a task that has no training rows."""
    if not task.dev:
        raise InputError(f"{task.folder} has no training rows: fine-tune on MNLI and predict {task.folder} with that")


def read_glue(glue_dir: str | Path, task: GlueTask) -> tuple[LabelledText, dict[str, LabelledText]]:
    """Training rows, and evaluation rows by the name of their split ("dev", or MNLI's two).

    Raises InputError for a missing file, column or label, and a wrong number of fields, naming file and line.
    """
    check_trained(task)
    folder = Path(glue_dir) / task.folder
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: expected the files of {task.folder} there, as GLUE lays them out")
    return _labelled(folder / "train.tsv", task), {name: _labelled(folder / f"{name}.tsv", task) for name in task.dev}


def read_glue_test(glue_dir: str | Path, task: GlueTask) -> dict[str, LabelledText]:
    """Rows to predict, by the leaderboard's name of the file of their predictions, such as "MNLI-mm".

    Raises InputError for a missing file or column, and for any row with a wrong number of fields: each needs an answer.
    """
    found = {}
    for name, places in task.test_files.items():
        paths = [Path(glue_dir, place) for place in places]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise InputError(f"{paths[0]}: no such file" + "".join(f", nor {other}" for other in paths[1:]))
        found[name] = unlabelled_text(_records(path, None), task.columns)
    return found


def _labelled(path: Path, task: GlueTask) -> LabelledText:
    return labelled_text(_records(path, task.header, task.broken_rows), task.columns, regression=task.labels is None)


def _records(path: Path, header: Sequence[str] | None, may_be_broken: bool = False) -> list[Record]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        rows = list(tsv_rows(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    names = list(header) if header else rows.pop(0)[1] if rows else []
    broken = [number for number, fields in rows if len(fields) != len(names)]
    if broken and not (may_be_broken and len(broken) <= len(rows) // 1000):
        found = next(len(fields) for number, fields in rows if number == broken[0])
        raise InputError(f"{path}, line {broken[0]}: {found} fields, expected {len(names)} ({', '.join(names)})")
    if broken:
        _logger.warning("%s: %d broken rows passed over, the first at line %d", path, len(broken), broken[0])
    records = [
        Record(f"{path}, line {number}", dict(zip(names, fields, strict=True)))
        for number, fields in rows
        if len(fields) == len(names)
    ]
    if not records:
        raise InputError(f"{path} is empty: expected rows of {', '.join(names) or 'tab-separated fields'}")
    return records
