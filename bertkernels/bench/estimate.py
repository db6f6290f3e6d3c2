"""How long a run will take."""

import time
from collections.abc import Callable, Sequence

from . import ENCODERS
from .case import BOTH, Case, dimensions
from .measure import Effort

# Roughly: operations a second of matrix products, and seconds a byte of the ideal op that all peers together take.
_RATE = {"cpu": 1.2e11, "cuda": 2e14}
_SECONDS_A_BYTE = {"cpu": 1e-8, "cuda": 1e-11}
_COMPILE_SECONDS = {False: 6.0, True: 18.0}  # forward, and with backward
_PEERS = 4
_SEEN = 60.0  # seconds after which a run's own speed counts as much as what was expected


def expected_seconds(case: Case, effort: Effort) -> float:
    """Roughly, on a machine like a small server: timing, compiling, and measuring memory."""
    size, both, tokens = dimensions(case.size), case.mode == BOTH, case.batch * case.tokens
    is_encoder = case.op in ENCODERS
    rounds, seconds = (
        (effort.encoder_rounds, effort.encoder_seconds) if is_encoder else (effort.op_rounds, effort.op_seconds)
    )
    layer = size.channels * (4 * size.channels + 2 * size.intermediate)  # weights of one, near enough
    operations = 2 * tokens * (12 * layer if is_encoder else size.channels * size.intermediate) * (3 if both else 1)
    moved = 0 if is_encoder else 4 * tokens * size.channels * (3 if both else 1)
    a_round = _PEERS * operations / _RATE[case.device] + moved * _SECONDS_A_BYTE[case.device]
    total = a_round + max(rounds * a_round, seconds)
    if case.compiled:
        total += _COMPILE_SECONDS[both] * (3 if is_encoder else 1)
    if case.memory:
        total += 2 * a_round + (12.0 if is_encoder else 2.0)
    return total


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
