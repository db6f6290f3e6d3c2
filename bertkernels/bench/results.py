"""Results as JSON lines: one row a case and peer."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from bertkernels.errors import InputError

from . import environment
from .measure import Measurement
from .op_bench import COPY
from .select import bench_of

Row = dict[str, object]

# All rows of a case are measured together, and replaced together.
_CASE = ("op", "size", "batch", "tokens", "text", "mode", "dtype", "device", "device_name", "threads")
_FIELDS = {
    **{name: str for name in ("op", "size", "mode", "dtype", "device", "device_name", "peer", "date")},
    **{name: int for name in ("batch", "tokens", "calls")},
    **{name: float for name in ("p20_us", "p50_us", "p80_us")},
    **{"threads": (int, type(None)), "floor": bool, "versions": dict, "source": (str, type(None))},
    **{"text": (str, type(None))},
}


def case_of(row: Row) -> tuple:
    """What tells a row's case from others; rows of one case can be compared."""
    return tuple(row[field] for field in _CASE)


def default_file(device: str) -> Path:
    """Where results of a full run go: benchmarks/results in a checkout, else the current folder."""
    root = environment.checkout()
    return Path("bertkernels_bench.jsonl") if root is None else root / "benchmarks" / "results" / f"{device}.jsonl"


def to_rows(measurement: Measurement, made_with: Row) -> list[Row]:
    """One row a peer. Times are in microseconds; `bytes` is what an ideal op moves."""
    case = measurement.case
    copy = measurement.timings.get(COPY)
    return [
        {
            "op": case.op,
            "size": case.size,
            "batch": case.batch,
            "tokens": case.tokens,
            "text": case.text,
            "mode": case.mode,
            "dtype": case.dtype,
            "peer": peer,
            "floor": peer in measurement.floors,
            "p20_us": round(timing.p20, 2),
            "p50_us": round(timing.p50, 2),
            "p80_us": round(timing.p80, 2),
            "calls": timing.calls,
            "peak_bytes": timing.peak_bytes,
            "bytes": bench_of(case).bytes_moved(case),
            "percent_of_copy_bandwidth": None if copy is None else round(100 * copy.p50 / timing.p50, 1),
            **made_with,
        }
        for peer, timing in measurement.timings.items()
    ]


def read(path: Path) -> list[Row]:
    """The rows of a file of results.

    Raises InputError, naming file and line, where it is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected JSON lines in UTF-8") from error
    return [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _row(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: expected an object with the fields of a result")
    for field, kind in _FIELDS.items():
        if field not in row:
            raise InputError(f"{path}, line {number}: field {field!r} is missing; is this a file of results?")
        value = float(row[field]) if kind is float and type(row[field]) is int else row[field]
        if not isinstance(value, kind) or (kind is float and not value > 0):
            raise InputError(f"{path}, line {number}: field {field!r} has a value of the wrong kind, {row[field]!r}")
    return row


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Old rows, those of cases measured anew replaced."""
    new = list(new)
    replaced = {case_of(row) for row in new}
    return [row for row in old if case_of(row) not in replaced] + new


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes under a temporary name first, so that the file is never half there. Raises InputError where it cannot."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
