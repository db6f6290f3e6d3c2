"""Tunes one kernel after the other and keeps what it finds as it goes."""

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from bertkernels.bench.select import SHAPES
from bertkernels.bench.timing import Timing, interleaved
from bertkernels.kernels.tuning import Configuration

from . import store
from .jobs import Job
from .search import Finding, Record, Timer, search


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
    precompile: Callable[[Job, Sequence[Configuration], float], None] = lambda job, candidates, seconds: None,
    after_each: Callable[[str], None] = lambda mark: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[Job, Finding]]:
    """Yields each job with what was found, once that stands in `folder`.

    Args:
        record, timer: how calls are recorded and timed.
        budget_s: seconds for all; each job may take as much as is left for those to come, and a part of its candidates
            goes untried where that is not enough.
        shapes: (B, T) of the batches to time.
        precompile: told what will be run, and how long there is for it.
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
        precompile(job, candidates, (deadline - now) / 2)
        found = search(job.kernel, candidates, calls, record, timer, past(deadline), after_each)
        if found.tried > len(found.discarded):
            store.keep(folder, job.kernel, device_name, job.key, found.winner)
        yield job, found
