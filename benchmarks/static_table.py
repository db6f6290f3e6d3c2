"""The static tables in benchmarks/results: what compilers tell about the GPU kernels, without a GPU. No timings.

A JSON line a kernel and GPU target:

    op, kernel, target          target is the compute capability times ten
    …                           what else tells lines of a kernel apart
    threads                     a block's
    registers                   a thread's
    shared_bytes                a block's
    columns                     a block's, of tensor memory (Blackwell)
    stack_bytes                 a thread's
    spill_bytes                 a thread's, stores to and loads from memory of its own together
    blocks, warps, limited_by   how many a multiprocessor holds, and what allows no more (static_occupancy)
    tensor, loads, stores, copies, atomics
                                instructions of each kind, where they stand in the code (static_cubin.Instructions)
    compiler, source            what it was compiled with, and a digest of the code that the line follows from
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from static_cubin import Kernel
from static_occupancy import occupancy

ROOT = Path(__file__).resolve().parents[1]
TARGETS = (80, 90, 100)
CUDA = ROOT / "benchmarks" / "results" / "static_cuda.jsonl"
TRITON = ROOT / "benchmarks" / "results" / "static_triton.jsonl"

Row = dict[str, object]

FIGURES = ("threads", "registers", "shared_bytes", "columns", "stack_bytes", "spill_bytes")
FIGURES += ("blocks", "warps", "limited_by", "tensor", "loads", "stores", "copies", "atomics")
MADE_WITH = ("compiler", "source")
READ_WITH = ("benchmarks/static_cubin.py", "benchmarks/static_occupancy.py")


def figures(target: int, kernel: Kernel, shared_bytes: int, columns: int = 0) -> Row:
    """What a line says of a kernel; shared_bytes and columns are a block's, as it is launched."""
    held = occupancy(target, kernel.threads, kernel.registers, shared_bytes, columns)
    mix = kernel.instructions
    values = (kernel.threads, kernel.registers, shared_bytes, columns, kernel.stack_bytes, mix.local_bytes)
    values += (held.blocks, held.warps, ", ".join(held.limited_by), mix.tensor)
    values += tuple({str(width): count for width, count in counts.items()} for counts in (mix.loads, mix.stores))
    return dict(zip(FIGURES, (*values, mix.copies, mix.atomics), strict=True))


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def key(row: Row) -> Row:
    """What was compiled: the row without what came of it."""
    return {name: value for name, value in row.items() if name not in (*FIGURES, *MADE_WITH)}


def source_digest(*sources: Path) -> str:
    """Changes with the code of the files and of all of ours that they include or import, not with lines of comment."""
    digest, found = hashlib.sha256(), set()
    for source in sources:
        _with_included(source, found)
    for path in sorted(found):
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
