"""Results as JSON lines: one row a case and peer; `record` says what of it, see `Case.record`."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bertkernels.errors import InputError

from . import environment
from .case import BACKWARD, BOTH, GROWTH, MEMORY, PROFILE, TIMES, Case
from .matrix_products import PRODUCTS
from .measure import Measurement
from .op_bench import COPY
from .select import bench_of
from .timing import Timing

Row = dict[str, object]

# All rows of a case are measured together, and replaced together.
_CASE = ("record", "op", "size", "batch", "tokens", "text", "mode", "dtype", "device", "device_name", "threads")
# What was measured with the same of these need not be measured anew.
_SAME = ("device", "device_name", "threads", "versions", "source", "effort")
_FIELDS = {
    **{name: str for name in ("op", "size", "mode", "dtype", "device", "device_name", "peer", "date", "effort")},
    **{name: int for name in ("batch", "tokens")},
    **{"threads": (int, type(None)), "text": (str, type(None)), "source": (str, type(None)), "versions": dict},
}
_FIELDS_OF = {
    TIMES: {
        "calls": int,
        **{name: float for name in ("p20_us", "p50_us", "p80_us")},
        **{"floor": bool, "easier": bool, "left_out": dict},
        **{name: (int, type(None)) for name in ("bytes", "operations", "peak_bytes")},
        **{name: (int, float, type(None)) for name in ("percent_of_copy_bandwidth", "percent_of_matrix_rate")},
        **{name: (int, float, type(None)) for name in ("copy_gb_s", "matrix_gflop_s")},
    },
    GROWTH: {"tokens_measured": list, "times_us": list, "peak_bytes": (int, type(None))},
    MEMORY: {"peak_bytes": int, "kept_bytes": dict},
    PROFILE: {"call_us": float, "kinds_us": dict, "products_us": dict},
}


def case_of(row: Row) -> tuple:
    """What tells a row's case from others; rows of one case can be compared."""
    return tuple(row[field] for field in _CASE)


def default_file(device: str) -> Path:
    """Where results of a full run go: benchmarks/results in a checkout, else the current folder."""
    root = environment.checkout()
    return Path("bertkernels_bench.jsonl") if root is None else root / "benchmarks" / "results" / f"{device}.jsonl"


def shared_fields(case: Case, peer: str, made_with: Row, record: str | None = None) -> Row:
    """The fields of every row: what was measured, of whom, with what."""
    fields = {field: getattr(case, field) for field in ("op", "size", "batch", "tokens", "text", "mode", "dtype")}
    return {"record": record or case.record} | fields | {"peer": peer} | made_with


def to_rows(measurement: Measurement, made_with: Row, peaks: Mapping[str, int] | None = None) -> list[Row]:
    """One row a peer; of a case with a backward pass two, the second for mode "backward"; and that of the profile.

    Times are in microseconds. `bytes` is what an ideal op moves, `operations` those of its matrix products. The
    percentages say how near a peer comes to the rate at which these bytes are copied, and to that of a large square
    product, both measured in turns with it (`copy_gb_s`, `matrix_gflop_s`).

    Args:
        peaks: peak memory by peer, where it was not measured with the times.
    """
    case = measurement.case
    rows = _rows_of_mode(measurement, case, measurement.timings, made_with, peaks or {})
    if case.mode == BOTH:
        backward = {peer: timing.second for peer, timing in measurement.timings.items()}
        rows += _rows_of_mode(measurement, replace(case, mode=BACKWARD), backward, made_with, {})
    if measurement.profile is not None:
        rows.append(_profile_row(measurement, made_with))
    return rows


def _profile_row(measurement: Measurement, made_with: Row) -> Row:
    profile = measurement.profile
    return shared_fields(measurement.case, profile.peer, made_with, PROFILE) | {
        "call_us": round(profile.call, 2),
        "kinds_us": {kind: round(time, 2) for kind, time in profile.kinds.items()},
        "products_us": {part: round(time, 2) for part, time in profile.products.items()},
    }


def _rows_of_mode(
    measurement: Measurement, case: Case, timings: Mapping[str, Timing], made_with: Row, peaks: Mapping[str, int]
) -> list[Row]:
    bench = bench_of(case)
    moved, operations = bench.bytes_moved(case), bench.operations(case)
    matrix_rate = measurement.matrix_rate
    copy_seconds = timings[COPY].p50 * 1e-6 if COPY in timings else None
    square_seconds = operations / matrix_rate if matrix_rate is not None else None
    whole = timings.keys() - measurement.floors - measurement.easier

    def percent(seconds: float | None, timing: Timing) -> float | None:
        return None if seconds is None else round(100 * seconds / (timing.p50 * 1e-6), 1)

    return [
        shared_fields(case, peer, made_with)
        | {
            "floor": peer in measurement.floors,
            "easier": peer in measurement.easier,
            "p20_us": round(timing.p20, 2),
            "p50_us": round(timing.p50, 2),
            "p80_us": round(timing.p80, 2),
            "calls": timing.calls,
            "peak_bytes": peaks.get(peer, timing.peak_bytes),
            "bytes": moved,
            "operations": operations,
            "percent_of_copy_bandwidth": percent(copy_seconds, timing) if peer in whole or peer == COPY else None,
            "percent_of_matrix_rate": percent(square_seconds, timing) if peer in whole or peer == PRODUCTS else None,
            "copy_gb_s": None if copy_seconds is None else round(moved / copy_seconds * 1e-9, 2),
            "matrix_gflop_s": None if matrix_rate is None else round(matrix_rate * 1e-9, 1),
            "left_out": measurement.left_out,
        }
        for peer, timing in timings.items()
    ]


def found(case: Case, rows: Iterable[Row], made_with: Row) -> list[Row]:
    """Of these rows those of this case that were measured on this machine with these sources, versions and effort."""
    modes = (BOTH, BACKWARD) if case.mode == BOTH else (case.mode,)
    records = (TIMES, PROFILE) if case.record == TIMES else (case.record,)
    fields = {field: getattr(case, field) for field in ("op", "size", "batch", "tokens", "text", "dtype")}
    wanted = fields | {field: made_with[field] for field in _SAME}
    return [
        row
        for row in rows
        if row["record"] in records and row["mode"] in modes and all(row[field] == wanted[field] for field in wanted)
    ]


def is_measured(case: Case, rows: Iterable[Row], made_with: Row) -> bool:
    """Whether these rows hold all peers of this case, and memory and profile if it asks for that, measured so."""
    there = found(case, rows, made_with)
    if case.record != TIMES:
        return bool(there)
    timed = [row for row in there if row["record"] == TIMES]
    peers = {row["peer"] for row in timed}.union(*(row["left_out"] for row in timed))
    has_memory = any(row["peak_bytes"] is not None for row in timed)
    has_profile = len(timed) < len(there)
    complete = peers >= set(bench_of(case).names(case))
    return complete and (has_memory or not case.memory) and (has_profile or not case.profile)


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
    record = row.setdefault("record", TIMES)  # files of before there were others
    if not isinstance(record, str) or record not in _FIELDS_OF:
        known = ", ".join(_FIELDS_OF)
        raise InputError(f"{path}, line {number}: field 'record' must be one of {known}, got {record!r}")
    for field, kind in (_FIELDS | _FIELDS_OF[record]).items():
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
