"""What GLUE's leaderboard takes: one TSV a task with `index` and `prediction`, all of them in one ZIP file."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bertkernels.data.glue import TASKS, GlueTask
from bertkernels.data.tables import tsv_rows

HEADER = ["index", "prediction"]
# Rows of the official test sets.
ROWS = {
    "CoLA": 1063,
    "SST-2": 1821,
    "MRPC": 1725,
    "QQP": 390_965,
    "STS-B": 1379,
    "MNLI-m": 9796,
    "MNLI-mm": 9847,
    "QNLI": 5463,
    "RTE": 3000,
    "WNLI": 146,
    "AX": 1104,
}
_TASK_OF = {file: task for task in TASKS.values() for file in task.test_files}
_LOWEST, _HIGHEST = 0.0, 5.0  # STS-B's scores


def write_answers(path: Path, indices: Sequence[str], answers: Sequence[str] | Sequence[float]) -> None:
    """Writes one file of the leaderboard's: labels as they are, scores cut to 0 to 5."""
    said = [answer if isinstance(answer, str) else f"{min(max(answer, _LOWEST), _HIGHEST):.3f}" for answer in answers]
    rows = ["\t".join(HEADER), *("\t".join(row) for row in zip(indices, said, strict=True))]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def submission_problems(folder: Path) -> list[str]:
    """What keeps a folder from being a whole submission, one sentence a problem; empty where nothing does.

    Each file must be there, with its header, the indices 0, 1, … of all rows of the official test set, and labels that
    the task has (STS-B: numbers from 0 to 5). Of each file the first problem is told.
    """
    problems = []
    for name, rows in ROWS.items():
        path = folder / f"{name}.tsv"
        if not path.is_file():
            problems.append(f"{path} is missing: {rows:,} predictions for {_TASK_OF[name].folder}")
            continue
        try:
            problems += list(_problems(path, rows, _TASK_OF[name]))[:1]
        except UnicodeDecodeError:
            problems.append(f"{path} is not UTF-8 text")
    return problems


def write_submission(folder: Path, target: Path) -> None:
    """The leaderboard's ZIP file of a folder's files: nothing else, no folders, the same bytes for the same files."""
    written = target.with_name(f".{target.name}.writing")
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ROWS:
            entry = zipfile.ZipInfo(f"{name}.tsv")  # without the file's time
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (folder / f"{name}.tsv").read_bytes())
    written.replace(target)


def _problems(path: Path, rows: int, task: GlueTask) -> Iterator[str]:
    lines = tsv_rows(path)
    _, header = next(lines, (0, []))
    if header != HEADER:
        yield f"{path}, line 1: expected the header {' and '.join(HEADER)}, found {' '.join(header) or 'nothing'}"
    count = 0
    for number, fields in lines:
        if len(fields) != 2:
            yield f"{path}, line {number}: {len(fields)} fields, expected index and prediction"
            continue
        index, answer = fields
        if index != str(count):
            yield f"{path}, line {number}: index {index!r}, expected {count}"
        if task.labels is not None and answer not in task.labels:
            yield f"{path}, line {number}: {answer!r} is no label of {task.folder} ({', '.join(task.labels)})"
        if task.labels is None and not _is_score(answer):
            yield f"{path}, line {number}: {answer!r} is no number from 0 to 5"
        count += 1
    if count != rows:
        yield f"{path} has {count:,} predictions, expected {rows:,}"


def _is_score(answer: str) -> bool:
    try:
        return _LOWEST <= float(answer) <= _HIGHEST
    except ValueError:
        return False
