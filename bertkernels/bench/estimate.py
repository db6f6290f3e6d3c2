"""How long a run will take."""

import time
from collections.abc import Callable, Sequence

from . import ENCODERS
from .case import BOTH, GROWTH, MEMORY, Case, dimensions
from .measure import Effort
from .select import bench_of

# Roughly: operations a second of matrix products, and seconds a byte of the ideal op that all peers of it take.
_RATE = {"cpu": 2e11, "cuda": 2e14}
_SECONDS_A_BYTE = {"cpu": 1e-8, "cuda": 1e-11}
_COMPILE_SECONDS = {False: 4.0, True: 8.0}  # forward, and with backward
_MEMORY_SECONDS = {"op": 2.0, "encoder": 5.0, "padded_batch": 5.0}  # beside the calls themselves
_GROWTH_SECONDS = 12.0
_MEMORY_CALLS = 9  # of two peers, in units of their products, where memory alone is measured
_PROFILE_CALLS = {False: 3, True: 1.2}  # of products in units of them, by whether there is a backward pass
_PEERS = {"op": 4.0, "encoder": 4.0, "padded_batch": 2.7}  # in units of one that takes padding for tokens
_SEEN = 60.0  # seconds after which a run's own speed counts as much as what was expected


def expected_seconds(case: Case, effort: Effort) -> float:
    """Roughly, on a machine like a small server: timing, compiling, and measuring memory."""
    if case.record == GROWTH:
        return _GROWTH_SECONDS
    kind = case.op if case.op in ENCODERS else "op"
    if case.record == MEMORY:
        return _MEMORY_CALLS * _encoder_operations(case) / _RATE[case.device] + 2 * _MEMORY_SECONDS[kind]
    peers, compiled = _PEERS[kind], case.compiled * (2 if kind == "encoder" else 1)
    if kind == "op":
        rounds, seconds = effort.op_rounds, effort.op_seconds
        operations, moved = bench_of(case).operations(case) or 0, bench_of(case).bytes_moved(case)
    else:
        rounds, seconds = effort.encoder_rounds, effort.encoder_seconds
        operations, moved = _encoder_operations(case), 0
    products = operations / _RATE[case.device]
    a_round = (peers + compiled) * products + moved * _SECONDS_A_BYTE[case.device]
    total = case.profile * _PROFILE_CALLS[case.mode == BOTH] * products
    total += a_round + max(rounds * a_round, seconds) + compiled * _COMPILE_SECONDS[case.mode == BOTH]
    return total + case.memory * (4 * peers * products + _MEMORY_SECONDS[kind])


def _encoder_operations(case: Case) -> int:
    """Near enough, without building the model."""
    size = dimensions(case.size)
    weights = 12 * size.channels * (4 * size.channels + 2 * size.intermediate)
    return 2 * case.batch * case.tokens * weights * (3 if case.mode == BOTH else 1)


class Clock:
    """Says how much longer a run takes: what its cases should take, times how far off that was so far.

    Args:
        expected: seconds of each case.
        now: the time in seconds.
    """

    def __init__(self, expected: Sequence[float], now: Callable[[], float] = time.monotonic):
        self.expected = list(expected)
        self._now = now
        self._start = now()

    def left(self, done: int) -> float:
        """Seconds, after so many cases."""
        seen = self._now() - self._start
        pace = (seen + _SEEN) / (sum(self.expected[:done]) + _SEEN)
        return pace * sum(self.expected[done:])
