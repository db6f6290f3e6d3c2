"""Finds the configuration of one kernel that beats its rule, if there is one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from bertkernels.bench.timing import Timing
from bertkernels.kernels import tuning
from bertkernels.kernels.tuning import Configuration

from .recording import Recording
from .subject import Call

Record = Callable[[Call], Recording]
Timer = Callable[[Mapping[str, Callable[[], None]], int, float], Mapping[str, Timing]]  # calls, rounds, seconds

LEAST_GAIN = 0.02  # a configuration that saves less of the time is not worth a file that must be kept
_FINALISTS = 3
_SCREENING, _FINAL = (5, 0.05), (40, 0.5)  # rounds at least, and seconds

# How far an element may be from the rule's, in units of its own size and of the typical one: sums in another order.
_TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 2.0**-4, torch.float16: 2.0**-7}


@dataclass
class Finding:
    """What came of a kernel's candidates.

    Attributes:
        winner: the configuration that beats the rule by more than noise; None: the rule stays.
        gain: time by the rule ÷ time of the fastest of the candidates, mean over the shapes.
        tried: how many candidates were run, of those that there are.
        discarded: candidates that did not count, and why.
        failure: why not even the rule could be run.
    """

    winner: Configuration | None = None
    gain: float = 1.0
    tried: int = 0
    discarded: list[tuple[Configuration, str]] = field(default_factory=list)
    failure: str | None = None


def search(
    kernel: str,
    candidates: Sequence[Configuration],
    calls: Mapping[str, Call],
    record: Record,
    timer: Timer,
    time_is_up: Callable[[], bool] = lambda: False,
    after_each: Callable[[str], None] = lambda mark: None,
) -> Finding:
    """Runs each candidate, checks its results against the rule's, and times those that are right in turns.

    All are timed shortly, then the fastest few at length beside the rule. The winner is faster by more than the spread
    of the times and `LEAST_GAIN`, and not slower on any shape.

    Args:
        calls: by shape. time_is_up: asked before each candidate, not to be tried if so.
        after_each: told "." after a candidate, "x" after a discarded one.
    """
    found = Finding()
    try:
        rule = _recorded(kernel, {}, calls, record)
    except Exception as error:
        found.failure = _sentence(error)
        return found
    runs: dict[str, Mapping[str, Recording]] = {"rule": rule}
    for number, candidate in enumerate(candidates):
        if time_is_up():
            break
        found.tried += 1
        try:
            run = _recorded(kernel, candidate, calls, record)
            reason = _objection(rule, run)
        except Exception as error:  # whatever compilers and drivers raise: this configuration cannot run here
            reason = _sentence(error)
        if reason is None:
            # only what is timed is kept: results of all candidates may not fit into memory
            runs[str(number)] = {shape: Recording(recording.replay, (), 0) for shape, recording in run.items()}
        else:
            found.discarded.append((candidate, reason))
        after_each("." if reason is None else "x")
    if len(runs) == 1:
        return found
    screened = _time(runs, timer, *_SCREENING)
    others = sorted((name for name in runs if name != "rule"), key=lambda name: _ratio(screened, name))
    final = _time({name: runs[name] for name in ("rule", *others[:_FINALISTS])}, timer, *_FINAL)
    best = min(others[:_FINALISTS], key=lambda name: _ratio(final, name))
    found.gain = 1 / _ratio(final, best)
    if _wins(final, best):
        found.winner = candidates[int(best)]
    return found


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _recorded(kernel: str, configuration: Configuration, calls: Mapping[str, Call], record: Record) -> dict:
    with tuning.trial(kernel, configuration):
        return {shape: record(call) for shape, call in calls.items()}


def _objection(rule: Mapping[str, Recording], run: Mapping[str, Recording]) -> str | None:
    """Why a candidate does not count; None if it does."""
    spills = sum(recording.spills for recording in run.values())
    if spills:
        return f"spills {spills} registers"
    for shape, recording in run.items():
        for i, (actual, expected) in enumerate(zip(recording.results, rule[shape].results, strict=True)):
            if not agrees(actual, expected):
                return f"wrong result {i} on {shape}"
    return None


def agrees(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether every element is the expected one but for rounding."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return False
    if not expected.numel():
        return True
    actual, wanted = actual.double(), expected.double()
    typical = wanted.square().mean().sqrt()
    return bool(((actual - wanted).abs() <= _TOLERANCES[expected.dtype] * (wanted.abs() + typical)).all())


Times = Mapping[str, Mapping[str, Timing]]  # by shape, then by configuration


def _time(runs: Mapping[str, Mapping[str, Recording]], timer: Timer, rounds: int, seconds: float) -> Times:
    shapes = next(iter(runs.values()))
    return {shape: timer({name: run[shape].replay for name, run in runs.items()}, rounds, seconds) for shape in shapes}


def _ratio(times: Times, name: str) -> float:
    """Geometric mean over the shapes of time ÷ time by the rule."""
    logs = [math.log(of_shape[name].p50 / of_shape["rule"].p50) for of_shape in times.values()]
    return math.exp(sum(logs) / len(logs))


def _wins(times: Times, name: str) -> bool:
    spreads = [
        (timing.p80 - timing.p20) / (2 * timing.p50)
        for of_shape in times.values()
        for timing in (of_shape["rule"], of_shape[name])
    ]
    noise = max(LEAST_GAIN, *spreads)
    slowest = max(of_shape[name].p50 / of_shape["rule"].p50 for of_shape in times.values())
    return _ratio(times, name) < 1 - noise and slowest <= 1 + LEAST_GAIN
