"""Tunes one kernel after the other and keeps what it finds as it goes."""

import importlib
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from bertkernels.bench.case import dimensions
from bertkernels.bench.select import SHAPES
from bertkernels.bench.timing import Timing, interleaved
from bertkernels.kernels import tuning
from bertkernels.kernels.tuning import Configuration

from . import store
from .search import Finding, Record, Timer, search
from .subject import Subject


@dataclass(frozen=True)
class Job:
    """One entry to be written: a kernel, its key, and by their sizes the models that launch it so."""

    kernel: str
    key: str
    subjects: Mapping[str, Subject]

    @property
    def candidates(self) -> list[Configuration]:
        """Those of its kernel, each once."""
        (first, *_) = self.subjects.values()
        return list({tuple(candidate.items()): candidate for candidate in first.candidates}.values())


def jobs(ops: Collection[str], sizes: Collection[str], dtype: torch.dtype) -> list[Job]:
    """What there is to tune. Models of the same widths share a job: their shapes are timed together."""
    grouped: dict[tuple[str, str], dict[str, Subject]] = {}
    for op in ops:
        module = importlib.import_module(f"bertkernels.tune.{op}")
        for size in sizes:
            for subject in module.subjects(dimensions(size), dtype):
                key = tuning.key(dtype, **subject.sizes)
                grouped.setdefault((subject.kernel, key), {})[size] = subject
    return [Job(kernel, key, subjects) for (kernel, key), subjects in grouped.items()]


def timer_on(device: torch.device) -> Timer:
    def timer(calls: Mapping[str, Callable[[], None]], rounds: int, seconds: float) -> Mapping[str, Timing]:
        return interleaved(calls, rounds=rounds, seconds=seconds, warmup=1, device=device, hide_launches=True)

    return timer


def tune(
    todo: Collection[Job],
    device: torch.device,
    device_name: str,
    folder: Path,
    record: Record,
    timer: Timer,
    *,
    budget_s: float = float("inf"),
    shapes: Collection[tuple[int, int]] = SHAPES["cuda"],
    after_each: Callable[[str], None] = lambda mark: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[Job, Finding]]:
    """Yields each job with what was found, once that stands in `folder`.

    Args:
        record, timer: how calls are recorded and timed.
        budget_s: seconds for all; each job may take as much as is left for those to come, and a part of its candidates
            goes untried where that is not enough.
        shapes: (B, T) of the batches to time.
    """
    end = clock() + budget_s

    def past(moment: float) -> Callable[[], bool]:
        return lambda: clock() >= moment

    for number, job in enumerate(todo):
        now = clock()
        if now >= end:
            yield job, Finding()
            continue
        deadline = now + (end - now) / (len(todo) - number)
        calls = {
            f"{size} B{batch}·T{tokens}": subject.build(batch, tokens, device)
            for size, subject in job.subjects.items()
            for batch, tokens in shapes
        }
        # in no order, so that those that time is too short for are not all of one kind
        candidates = job.candidates
        random.Random(0).shuffle(candidates)
        found = search(job.kernel, candidates, calls, record, timer, past(deadline), after_each)
        if found.tried > len(found.discarded):
            store.keep(folder, job.kernel, device_name, job.key, found.winner)
        yield job, found
