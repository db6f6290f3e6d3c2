"""Checks a folder of GLUE tasks in their original layout."""

from collections import Counter
from pathlib import Path

from bertkernels.data.checks.report import FileCheck
from bertkernels.data.glue import TASKS, GlueTask
from bertkernels.data.tables import tsv_rows

# Rows of the published files, by the tasks' folders (Wang et al. 2019; QQP without the rows that were cut in two).
PUBLISHED = {
    "CoLA": {"train": 8551, "dev": 1043, "test": 1063},
    "SST-2": {"train": 67_349, "dev": 872, "test": 1821},
    "MRPC": {"train": 3668, "dev": 408, "test": 1725},
    "QQP": {"train": 363_846, "dev": 40_430, "test": 390_965},
    "MNLI": {
        "train": 392_702,
        "dev_matched": 9815,
        "dev_mismatched": 9832,
        "test_matched": 9796,
        "test_mismatched": 9847,
    },
    "QNLI": {"train": 104_743, "dev": 5463, "test": 5463},
    "RTE": {"train": 2490, "dev": 277, "test": 3000},
    "STS-B": {"train": 5749, "dev": 1500, "test": 1379},
    "WNLI": {"train": 635, "dev": 71, "test": 146},
}
_DIAGNOSTIC, _DIAGNOSTIC_ROWS = "diagnostic/diagnostic.tsv", 1104
_SCORES = (0.0, 5.0)


def check_glue(glue_dir: str | Path) -> list[FileCheck]:
    """Every file of every task, and the diagnostic set: rows, columns and labels."""
    folder = Path(glue_dir)
    checks = []
    for name, splits in PUBLISHED.items():
        for split, published in splits.items():
            file = f"{name}/{split}.tsv"
            checks.append(_check(folder / file, file, TASKS[name], split.startswith("test"), published))
    pair = GlueTask("diagnostic", TASKS["RTE"].columns)
    return [*checks, _check(folder / _DIAGNOSTIC, _DIAGNOSTIC, pair, True, _DIAGNOSTIC_ROWS)]


def _check(path: Path, file: str, task: GlueTask, test: bool, published: int) -> FileCheck:
    if not path.is_file():
        return FileCheck(file, published=published)
    try:
        rows = list(tsv_rows(path))
    except UnicodeDecodeError as error:
        return FileCheck(file, problem=f"{path}: not UTF-8 text ({error.reason} at byte {error.start})")
    except OSError as error:
        return FileCheck(file, problem=f"{path}: {error.strerror}")
    header = list(task.header) if task.header and not test else rows.pop(0)[1] if rows else []
    if not rows:
        return FileCheck(file, problem=f"{path} is empty: expected a header line and rows")
    columns = task.columns
    wanted = [name for name in (columns.first, columns.second, None if test else columns.label) if name]
    absent = [name for name in wanted if name not in header]
    if absent:
        return FileCheck(file, problem=f"{path}: no column {absent[0]!r}; columns: {', '.join(header)}")
    broken = [(number, len(fields)) for number, fields in rows if len(fields) != len(header)]
    if broken and not (task.broken_rows and len(broken) <= len(rows) // 1000):
        number, found = broken[0]
        return FileCheck(file, problem=f"{path}, line {number}: {found} fields, expected {len(header)}")
    whole = [(number, fields) for number, fields in rows if len(fields) == len(header)]
    notes = [f"{len(broken)} broken rows are passed over"] if broken else []
    if not test:
        place = header.index(columns.label)
        problem, note = _labels(path, [(number, fields[place].strip()) for number, fields in whole], task)
        if problem:
            return FileCheck(file, problem=problem)
        notes.insert(0, note)
    return FileCheck(file, len(whole), published, "; ".join(notes))


def _labels(path: Path, labels: list[tuple[int, str]], task: GlueTask) -> tuple[str | None, str]:
    """What is wrong with the labels, else what they are."""
    if task.labels is not None:
        for number, label in labels:
            if label not in task.labels:
                expected = ", ".join(map(repr, task.labels))
                return f"{path}, line {number}: unknown label {label!r}, expected one of {expected}", ""
        counts = Counter(label for _, label in labels)
        return None, ", ".join(f"{label} {counts[label]:,}" for label in task.labels)
    lowest, highest = _SCORES
    for number, label in labels:
        try:
            good = lowest <= float(label) <= highest
        except ValueError:
            good = False
        if not good:
            return f"{path}, line {number}: score {label!r}, expected a number from {lowest:g} to {highest:g}", ""
    return None, f"scores, mean {sum(float(label) for _, label in labels) / len(labels):.2f}"
