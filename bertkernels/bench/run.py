"""A run of the benchmark: one case after the other, each written down at once, none measured twice."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import environment, measure, results
from .case import GROWTH, MEMORY, TIMES, Case, Disagreement
from .encoder import PATCHED, PATCHED_COMPILED
from .estimate import Clock, expected_seconds
from .growth import measure_growth, slope, tokens_up_to
from .kept_tensors import kept_bytes
from .measure import Effort, Measurement
from .op_bench import HUGGING_FACE, HUGGING_FACE_COMPILED
from .peak_memory import Gauge, can_measure
from .report import duration
from .results import Row
from .select import bench_of

_COMPILED = (HUGGING_FACE_COMPILED, PATCHED_COMPILED)


@dataclass(frozen=True)
class Outcome:
    """Rows of the cases asked for, measured now or before, and how many cases have none since their peers disagreed."""

    rows: list[Row]
    disagreements: int


def run(cases: Sequence[Case], effort: Effort, device: str, path: Path | None = None, fresh: bool = False) -> Outcome:
    """Measures these cases; says on standard error how far it is.

    Args:
        path: file of results. What it holds of these cases, measured on this machine with these sources, versions,
            threads and effort, is taken from there; after each case it is written anew, so that an interrupted run
            goes on where it was. Other results in it are kept.
        fresh: measure also what the file already holds.
    """
    if not can_measure():
        cases = [replace(case, memory=False) for case in cases if case.record != MEMORY]
    made_with = environment.describe(device) | {"effort": effort.name}
    rows = results.read(path) if path is not None and path.exists() else []
    todo = [case for case in cases if fresh or not results.is_measured(case, rows, made_with)]
    if len(todo) < len(cases):
        there = f"{len(cases) - len(todo)} of {len(cases)} cases are in {path} already"
        print(f"{there} (--fresh measures them anew)", file=sys.stderr)
    clock = Clock([expected_seconds(case, effort) for case in todo])
    disagreements = 0
    with Gauge() as gauge:
        for done, case in enumerate(todo):
            progress = f"[{done + 1}/{len(todo)}, {remaining(clock.left(done))}]"
            print(f"{progress} {case.label}: ", end="", file=sys.stderr, flush=True)
            try:
                new = _MEASURE[case.record](case, effort, gauge, made_with)
            except Disagreement as error:
                print(f"no figures: {error}", file=sys.stderr, flush=True)
                disagreements += 1
                continue
            rows = results.merged(rows, new)
            if path is not None:
                results.write(path, rows)
    return Outcome([row for case in cases for row in results.found(case, rows, made_with)], disagreements)


def remaining(seconds: float) -> str:
    """How much longer, as one says it."""
    return "less than a minute left" if seconds < 60 else f"about {seconds / 60:.0f} min left"


def _times(case: Case, effort: Effort, gauge: Gauge, made_with: Row) -> list[Row]:
    measurement = measure.measure(case, effort)
    print(_summary(measurement), file=sys.stderr, flush=True)
    peaks = _peaks(gauge, case, _whole(measurement)) if case.memory else {}
    return results.to_rows(measurement, made_with, peaks)


def _growth(case: Case, _: Effort, gauge: Gauge, made_with: Row) -> list[Row]:
    times, tokens = measure_growth(case), tokens_up_to(case.tokens)
    print(", ".join(f"{peer} {slope(tokens, of_peer):.2f}" for peer, of_peer in times.items()), file=sys.stderr)
    peaks = _peaks(gauge, case, [bench_of(case).best(case)] if can_measure() else [])
    return [
        results.shared_fields(case, peer, made_with)
        | {"tokens_measured": tokens, "times_us": of_peer, "peak_bytes": peaks.get(peer)}
        for peer, of_peer in times.items()
    ]


def _memory(case: Case, _: Effort, gauge: Gauge, made_with: Row) -> list[Row]:
    peaks = _peaks(gauge, case, [HUGGING_FACE, PATCHED])
    print(", ".join(f"{peer} {peak / 1e6:.1f} MB" for peer, peak in peaks.items()), file=sys.stderr, flush=True)
    return [
        results.shared_fields(case, peer, made_with) | {"peak_bytes": peak, "kept_bytes": kept_bytes(case, peer)}
        for peer, peak in peaks.items()
    ]


# record -> (case, effort, gauge, what it is made with) -> its rows
_MEASURE = {TIMES: _times, GROWTH: _growth, MEMORY: _memory}


def _summary(measurement: Measurement) -> str:
    times = [f"{peer} {duration(timing.p50)}" for peer, timing in measurement.timings.items()]
    missing = [f"{peer} left out ({reason})" for peer, reason in measurement.left_out.items()]
    return ", ".join(times + missing)


def _whole(measurement: Measurement) -> list[str]:
    """The peers that do the whole work. Compiling anew in another process would take longer than all the rest: compiled
    ones are left out."""
    less = measurement.floors | measurement.easier
    return [peer for peer in measurement.timings if peer not in less and peer not in _COMPILED]


def _peaks(gauge: Gauge, case: Case, peers: Iterable[str]) -> dict[str, int]:
    try:
        return {peer: gauge.peak(case, peer) for peer in peers}
    except RuntimeError as error:
        print(f"no figures: {error}", file=sys.stderr, flush=True)
        return {}
