"""GLUE from the Hugging Face hub, written in its original layout."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets

from bertkernels.data.formats.dataset_rows import load
from bertkernels.data.formats.piece import ReadOptions
from bertkernels.data.glue import TASKS, TRAINED, GlueTask
from bertkernels.errors import InputError

HUB_NAME = "nyu-mll/glue"
_SPLITS = {
    "train": "train",
    "dev": "validation",
    "test": "test",
    "dev_matched": "validation_matched",
    "dev_mismatched": "validation_mismatched",
    "test_matched": "test_matched",
    "test_mismatched": "test_mismatched",
}
_CONFIGS = {"CoLA": "cola", "SST-2": "sst2", "STS-B": "stsb"}  # the others: small letters
_FIELDS = {  # the hub's names of columns that are named otherwise there
    "MRPC": {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"},
    "QQP": {"is_duplicate": "label"},
    "MNLI": {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
    "STS-B": {"score": "label"},
}
_PARSES = ("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse")
# Columns of the original files, for programs that find them by their number. The hub has not got all of them.
_HEADERS = {
    "CoLA": ("source", "label", "mark", "sentence"),
    "SST-2": ("sentence", "label"),
    "MRPC": ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
    "QQP": ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
    "MNLI": ("index", "promptID", "pairID", "genre", *_PARSES, "sentence1", "sentence2", "label1", "gold_label"),
    "QNLI": ("index", "question", "sentence", "label"),
    "RTE": ("index", "sentence1", "sentence2", "label"),
    "STS-B": (
        *("index", "genre", "filename", "year", "old_index"),
        *("source1", "source2", "sentence1", "sentence2", "score"),
    ),
    "WNLI": ("index", "sentence1", "sentence2", "label"),
}
_NOT_IN_TEST = ("label1", "source", "mark", "qid1", "qid2")
_ABSENT = "n/a"


def write_glue(folder: str | Path, name: str = HUB_NAME) -> None:
    """Writes all tasks into `folder`, file by file; files that are there stay. Columns that the hub has not got hold
    "n/a". Raises InputError where the hub cannot be reached."""
    for task in map(TASKS.get, TRAINED):
        for split in ("train", *task.dev, *(dev.replace("dev", "test") for dev in task.dev)):
            path = Path(folder) / task.folder / f"{split}.tsv"
            if not path.exists():
                config = _CONFIGS.get(task.folder, task.folder.lower())
                rows = load(name, ReadOptions(dataset_config=config, dataset_split=_SPLITS[split]))
                _write(path, _lines(rows, task, split, name))
    path = Path(folder) / "diagnostic" / "diagnostic.tsv"
    if not path.exists():
        rows = load(name, ReadOptions(dataset_config="ax", dataset_split="test"))
        fields = (("index", "idx"), ("sentence1", "premise"), ("sentence2", "hypothesis"))
        header = "\t".join(column for column, _ in fields)
        _write(path, [header, *("\t".join(_text(row[field]) for _, field in fields) for row in rows)])


def _lines(rows: datasets.Dataset, task: GlueTask, split: str, name: str) -> Iterator[str]:
    header = _header(task, split)
    if split.startswith("test") or task.header is None:
        yield "\t".join(header)
    renamed = _FIELDS.get(task.folder, {}) | {"index": "idx", "id": "idx", "label1": "label"}
    labels = rows.features["label"]
    for row in rows:
        fields = {column: row.get(renamed.get(column, column)) for column in header}
        for column in {task.columns.label, "label1"} & set(fields):
            value = fields[column]
            named = task.labels is not None and not task.labels[0].isdecimal()
            fields[column] = labels.names[value] if named else value
        missing = [key for key in (task.columns.first, task.columns.second) if key and fields.get(key) is None]
        if missing:
            raise InputError(f"{name}, {task.folder}/{split}: there is no column for {missing[0]!r}")
        yield "\t".join(_text(fields[column]) for column in header)


def _header(task: GlueTask, split: str) -> tuple[str, ...]:
    header = _HEADERS[task.folder]
    if not split.startswith("test"):
        return header
    kept = [column for column in header if column not in (*_NOT_IN_TEST, task.columns.label)]
    return tuple(kept if kept[0] in ("index", "id") else ["index", *kept])


def _text(value: object) -> str:
    """A field: tabs and line ends would make others of it."""
    return _ABSENT if value is None else " ".join(str(value).split())


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.writing")
    with open(written, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    os.replace(written, path)
