"""Times several callables fairly: in one process, taking turns, medians with their spread."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

_TURN_SECONDS = 0.005  # a callable quicker than this is called several times a turn
_CALLS_A_TURN = 20
_FLUSH_BYTES = 256 * 2**20  # more than the last-level cache of any GPU so far
_HIDE_LAUNCHES_CYCLES = 1_000_000  # of the GPU, for each step: about half a millisecond

Sample = tuple[float, float]  # seconds of a call, and of its second step (of a call of one step: the same)


@dataclass(frozen=True)
class Timing:
    """Quantiles of one callable's times in microseconds, over `calls` timed calls.

    peak_bytes: memory that one call takes at its peak beyond what was there before; None on the CPU.
    second: the same of the second step alone, where a call has two.
    """

    p20: float
    p50: float
    p80: float
    calls: int
    peak_bytes: int | None = None
    second: "Timing | None" = None


@dataclass(frozen=True)
class TwoSteps:
    """A call of two steps, of which the second, which takes what the first returns, is timed on its own too."""

    first: Callable[[], object]
    second: Callable[[object], object]

    def __call__(self) -> object:
        return self.second(self.first())


def interleaved(
    callables: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 5,
    seconds: float = 1.0,
    warmup: int = 2,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    hide_launches: bool = False,
    on_round: Callable[[float], None] | None = None,
) -> dict[str, Timing]:
    """Times the callables in turns, so that whatever else the machine does hits all of them alike.

    A round gives each callable one turn, in an order shuffled anew each time (always the same in every run). A turn of
    a quick callable starts with an untimed call and has up to 20 timed ones: each meets its own data in the cache, not
    what the one before it left there. On a GPU, events time one call a turn, after a write over the whole L2 cache.
    What a call returns is freed outside the timed span. Of `TwoSteps` the second is timed within the same calls, from
    the moment that the first has returned (on a GPU: has run). Compare the results as ratios: absolute times of
    different runs differ with the machine's mood.

    Args:
        callables: name → function of no arguments; at least one.
        rounds: turns that each callable gets at least.
        seconds: go on for this long in all, however many rounds that makes.
        warmup: untimed calls of each callable first; the very first may compile. 0 if all were called before.
        device: where they run, "cpu" or "cuda".
        threads: torch's threads during the measurement, if not as they are.
        hide_launches: CUDA only: queue each call behind a short pause, so that kernels are timed and not the time that
            Python takes to launch them. For single ops; an encoder's launches are part of what its user waits for.
        on_round: called after each round with the share of the work, from 0 to 1, that is done.

    Returns:
        name → `Timing`, in the order of `callables`.
    """
    if not callables:
        raise ValueError("interleaved: callables is empty")
    if rounds < 1 or warmup < 0:
        raise ValueError(f"interleaved: rounds must be at least 1 and warmup 0, got {rounds} and {warmup}")
    device = torch.device(device)
    with thread_count(threads):
        if device.type == "cuda":
            with torch.cuda.device(device):
                turn = _CudaTurns(callables, warmup, hide_launches)
                samples = _rounds(turn, list(callables), rounds, seconds, on_round)
        else:
            turn = _CpuTurns(callables, warmup)
            samples = _rounds(turn, list(callables), rounds, seconds, on_round)
    return {
        name: _timing(samples[name], isinstance(function, TwoSteps), turn.peak_bytes.get(name))
        for name, function in callables.items()
    }


@contextlib.contextmanager
def thread_count(threads: int | None) -> Iterator[None]:
    """Sets torch's number of threads inside a `with` block; None leaves it."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rounds(
    turn: Callable[[str], list[Sample]],
    names: list[str],
    rounds: int,
    seconds: float,
    on_round: Callable[[float], None] | None,
) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    order = random.Random(0)
    start = time.perf_counter()
    done = 0
    while done < rounds or time.perf_counter() - start < seconds:
        for name in order.sample(names, len(names)):
            samples[name] += turn(name)
        done += 1
        if on_round is not None:
            elapsed = time.perf_counter() - start
            on_round(min(1.0, done / rounds, elapsed / seconds if seconds else 1.0))
    return samples


class _CpuTurns:
    def __init__(self, callables: Mapping[str, Callable[[], object]], warmup: int):
        self.callables = callables
        self.peak_bytes: dict[str, int] = {}
        self.fastest = dict.fromkeys(callables, float("inf"))
        for function in callables.values():
            for _ in range(warmup):
                function()

    def __call__(self, name: str) -> list[Sample]:
        function = self.callables[name]
        if self._calls(name) > 1:
            function()
        times = [self._time(function)]
        self.fastest[name] = min(self.fastest[name], times[0][0])
        times += [self._time(function) for _ in range(self._calls(name) - 1)]
        return times

    def _calls(self, name: str) -> int:
        """How many a turn, by the fastest first call so far: one that was disturbed says nothing."""
        return min(_CALLS_A_TURN, max(1, int(_TURN_SECONDS / max(self.fastest[name], 1e-9))))

    @staticmethod
    def _time(function: Callable[[], object]) -> Sample:
        start = middle = time.perf_counter()
        if isinstance(function, TwoSteps):
            between = function.first()
            middle = time.perf_counter()
            result = function.second(between)
        else:
            result = function()
        end = time.perf_counter()
        del result
        return end - start, end - middle


class _CudaTurns:
    def __init__(self, callables: Mapping[str, Callable[[], object]], warmup: int, hide_launches: bool):
        self.callables = callables
        self.hide_launches = hide_launches
        self.flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device="cuda")
        self.peak_bytes = {name: self._peak(function, warmup) for name, function in callables.items()}

    @staticmethod
    def _peak(function: Callable[[], object], warmup: int) -> int:
        for _ in range(warmup):
            function()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def __call__(self, name: str) -> list[Sample]:
        function = self.callables[name]
        start, middle, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        self.flush.zero_()
        if self.hide_launches:
            torch.cuda._sleep(_HIDE_LAUNCHES_CYCLES * (2 if isinstance(function, TwoSteps) else 1))
        start.record()
        if isinstance(function, TwoSteps):
            between = function.first()
            middle.record()
            result = function.second(between)
        else:
            middle.record()
            result = function()
        end.record()
        end.synchronize()
        del result
        return [(start.elapsed_time(end) * 1e-3, middle.elapsed_time(end) * 1e-3)]


def _timing(samples: list[Sample], two_steps: bool, peak_bytes: int | None) -> Timing:
    whole, second = zip(*samples, strict=True)
    return Timing(
        *_quantiles(whole), len(samples), peak_bytes, Timing(*_quantiles(second), len(samples)) if two_steps else None
    )


def _quantiles(seconds: tuple[float, ...]) -> list[float]:
    """20, 50 and 80 %, in microseconds."""
    quantiles = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    return torch.tensor(seconds, dtype=torch.float64).mul(1e6).quantile(quantiles).tolist()


def milliseconds(
    callables: Mapping[str, Callable[[], object]], seconds: float, device: torch.device | str
) -> dict[str, float]:
    """The median time of each, taken in turns."""
    timings = interleaved(callables, seconds=seconds, device=device)
    return {name: timing.p50 / 1e3 for name, timing in timings.items()}
