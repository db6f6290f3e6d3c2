"""Training inside the demo: a line of progress now and then, a stop when time is up, step times."""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator

from transformers import TrainerCallback, TrainerControl, TrainerState

from bertkernels.demo.clock import minutes_text

_EVERY = 10.0  # seconds between two lines


class Progress(TrainerCallback):
    """Prints a line every ten seconds with what `describe` makes of the newest log entry.

    It stops the training when `seconds_left` falls to nothing; `stopped` tells so. `step_seconds` are the times of all
    steps. It writes to what standard output is when it is made, so that `quiet` does not silence it.
    """

    def __init__(
        self,
        describe: Callable[[dict], str] | None = None,
        seconds_left: Callable[[], float] | None = None,
    ) -> None:
        self.stopped = False
        self.step_seconds: list[float] = []
        self._describe = describe
        self._seconds_left = seconds_left
        self._terminal = sys.stdout
        self._newest: dict = {}
        self._begin = self._step_begin = self._printed = 0.0

    def on_train_begin(self, args, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._begin = self._printed = time.monotonic()

    def on_step_begin(self, args, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._step_begin = time.monotonic()

    def on_step_end(self, args, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        now = time.monotonic()
        self.step_seconds.append(now - self._step_begin)
        if self._seconds_left is not None and self._seconds_left() <= 0 and state.global_step < state.max_steps:
            self.stopped = control.should_training_stop = control.should_log = True
        if self._describe is not None and now - self._printed >= _EVERY and self._newest:
            self._printed = now
            self._print_line(state.global_step, state.max_steps, now)

    def on_log(self, args, state: TrainerState, control: TrainerControl, logs=None, **kwargs) -> None:
        if logs and "loss" in logs:
            self._newest = dict(logs)

    def _print_line(self, step: int, steps: int, now: float) -> None:
        to_go = (now - self._begin) / step * (steps - step)
        line = f"  step {step} of {steps}: {self._describe(self._newest)}; {minutes_text(to_go)} to go"
        print(line, file=self._terminal, flush=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what trainers print themselves; the demo prints less, and in words."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
