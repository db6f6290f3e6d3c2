"""The static tables in benchmarks/results: what compilers tell about the GPU kernels, without a GPU. No timings.

A JSON line a kernel and GPU target:

    op, kernel, target    target is the compute capability times ten
    …                     what else tells lines of a kernel apart
    registers             a thread's
    shared_bytes          a block's
    stack_bytes           a thread's
    spill_bytes           a thread's, stores and loads together
    compiler, source      what it was compiled with, and a digest of the code
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = (80, 90, 100)
CUDA = ROOT / "benchmarks" / "results" / "static_cuda.jsonl"
TRITON = ROOT / "benchmarks" / "results" / "static_triton.jsonl"

Row = dict[str, object]

_MEASURED = ("registers", "shared_bytes", "stack_bytes", "spill_bytes", "compiler", "source")


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def key(row: Row) -> Row:
    """What was compiled: the row without what came of it."""
    return {name: value for name, value in row.items() if name not in _MEASURED}


def source_digest(source: Path) -> str:
    """Changes with the code of a file and of all of ours that it includes or imports, not with lines of comment."""
    digest = hashlib.sha256()
    for path in sorted(_with_included(source, set())):
        comment = "#" if path.suffix == ".py" else "//"
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        digest.update("\n".join(line for line in lines if line and not line.startswith(comment)).encode() + b"\0")
    return digest.hexdigest()[:16]


def _with_included(source: Path, found: set[Path]) -> set[Path]:
    found.add(source)
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".py":
        modules = re.findall(r"^from \.(\w+) import", text, re.MULTILINE)
        modules += ", ".join(re.findall(r"^from \. import (.+)", text, re.MULTILINE)).split(", ")
        included = [source.with_name(f"{module}.py") for module in modules if module]
    else:
        names = re.findall(r'^#include "(.+)"', text, re.MULTILINE)
        beside = [(source.parent / name).resolve() for name in names]
        included = [path if path.is_file() else ROOT / "csrc" / name for path, name in zip(beside, names, strict=True)]
    for path in included:
        if path not in found:
            _with_included(path, found)
    return found
