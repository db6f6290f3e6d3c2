"""The demo's time: how much is left, and the headings of its steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_USED = 0.85  # of the minutes given; the rest is for what takes longer than estimated


class Clock:
    """Counts down from the moment `started` (of time.monotonic).

    Attributes:
        total: seconds the demo plans to take.
        seconds: what each finished step took, by its name.
    """

    def __init__(self, minutes: float, started: float, steps: int) -> None:
        self.total = 60 * minutes * _USED
        self.seconds: dict[str, float] = {}
        self._started = started
        self._steps = steps

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def left(self) -> float:
        """Planned seconds that are left; negative when they are used up."""
        return self.total - self.elapsed()

    @contextmanager
    def step(self, name: str, heading: str) -> Iterator[None]:
        """Prints the heading and records what the block takes."""
        begin = time.monotonic()
        number = len(self.seconds) + 1
        print(f"\n[{number}/{self._steps}] {heading}  ({minutes_text(self.elapsed())} since the start)", flush=True)
        yield
        self.seconds[name] = time.monotonic() - begin


def minutes_text(seconds: float) -> str:
    """Minutes and seconds, as 2:05."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"
