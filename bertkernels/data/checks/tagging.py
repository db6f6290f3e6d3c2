"""Checks a folder of tagged sentences in columns: a word a line, its tag in the last column, blank lines between."""

import re
from collections import Counter
from pathlib import Path

from bertkernels.data.checks.report import FileCheck
from bertkernels.data.compressed import open_text

# Sentences of the published files, by the task's folder.
PUBLISHED = {
    "conll2000": {"train": 8936, "test": 2012},
    "conll2003": {"train": 14_041, "dev": 3250, "test": 3453},
    "wnut17": {"train": 3394, "dev": 1009, "test": 1287},
}
_TAG = re.compile(r"O|[BIES]-\S+")
_SUFFIXES = (".txt", ".conll", ".tsv")


def check_tagging(folder: str | Path) -> list[FileCheck]:
    """All files with columns in the folder and in its folders: sentences, columns and tags."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    checks = [_check(path, str(path.relative_to(folder))) for path in files]
    return checks or [FileCheck("*.txt")]


def _check(path: Path, file: str) -> FileCheck:
    sentences, inside, columns = 0, False, 0
    kinds: Counter[str] = Counter()
    number = 0
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, start=1):
                fields = line.split()
                if not fields or fields[0] == "-DOCSTART-":
                    inside = False
                    continue
                columns = columns or len(fields)
                if len(fields) != columns or columns < 2:
                    return FileCheck(file, problem=f"{path}, line {number}: {_columns(len(fields), columns)}")
                if not _TAG.fullmatch(fields[-1]):
                    return FileCheck(file, problem=f"{path}, line {number}: {fields[-1]!r} is no tag such as O or B-X")
                sentences += not inside
                inside = True
                if fields[-1][0] in "BS":
                    kinds[fields[-1][2:]] += 1
    except UnicodeDecodeError as error:
        return FileCheck(file, problem=f"{path}, after line {number}: not UTF-8 text ({error.reason})")
    except OSError as error:
        return FileCheck(file, problem=f"{path}: {error.strerror}")
    if not sentences:
        return FileCheck(file, problem=f"{path} is empty: expected a word and its tag a line")
    note = f"{columns} columns; " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common(12))
    return FileCheck(file, sentences, PUBLISHED.get(path.parent.name.lower(), {}).get(path.stem), note)


def _columns(found: int, expected: int) -> str:
    return f"{found} columns, expected {max(expected, 2)} as on the lines before" if expected > 1 else "no tag column"
