"""SIGTERM during training: a checkpoint first, then the end."""

import signal
import threading

import torch.distributed
from transformers import TrainerCallback

EXIT_CODE = 128 + signal.SIGTERM
_STOP_AT = "bertkernels/stop_at"


class StopSignal(TrainerCallback):
    """While entered, SIGTERM ends training after the step that runs, with a checkpoint. A second one kills.

    All processes of a run stop after the same step, whenever the signal reaches each: the first to notice names a step
    that none has finished yet, in the store through which they found each other. (transformers' own
    `enable_jit_checkpoint` has each process save where it happens to be, and goes on to save the final model.)
    """

    def __init__(self) -> None:
        self.stopped = False
        self._received = False
        self._before = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self._must_stop(state.global_step):
            self.stopped = control.should_save = control.should_training_stop = True

    def _receive(self, *_: object) -> None:
        self._received = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _must_stop(self, step: int) -> bool:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._received
        store = torch.distributed.distributed_c10d._get_default_store()
        if self._received:
            # Gradients are exchanged in each step, so another process may be one step ahead, and reads this after it.
            store.compare_set(_STOP_AT, "", str(step + 1))
        return store.check([_STOP_AT]) and step >= int(store.get(_STOP_AT))
