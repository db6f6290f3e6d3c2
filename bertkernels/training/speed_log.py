"""How fast a run trains, for its log."""

from collections.abc import Callable, Mapping

import torch
from transformers import TrainingArguments

from bertkernels.training.throughput import Stopwatch, peak_rate, training_operations


class SpeedLog:
    """Real tokens a second of all processes, the share of padding, and the operations a second of the model's products,
    also as a share of what the hardware can do (`mfu`).

    The first batch says how many operations a real token takes. Time counts between `resume` and `pause`.
    """

    def __init__(self, args: TrainingArguments) -> None:
        self._args = args
        self._watch = Stopwatch()
        self._earlier_tokens = 0.0  # those since the last log line that another process trained on, before a resume
        self._operations: float | None = None  # for one real token
        self._peak = 0.0  # the most operations a second of one process
        self.measured = False

    def resume(self) -> None:
        self._watch.resume()

    def pause(self) -> None:
        self._watch.pause()

    def leave_out(self, tokens: float) -> None:
        """Of the tokens since the last log line, so many took none of this process's time."""
        self._earlier_tokens = tokens

    def measure(self, forward: Callable[[], object], batch: Mapping[str, torch.Tensor]) -> None:
        """Counts the operations of one forward pass over a batch, whose `batch_tokens` these are."""
        self.measured = True
        if "tokens" not in batch:
            return
        args = self._args
        operations = training_operations(forward, args.device)
        self._operations = operations / max(batch["tokens"].item(), 1.0)
        dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
        self._peak = peak_rate(args.device, dtype)
        self._watch.reset()

    def read(self, sums: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """What to log, of the sums over all processes since it was last read."""
        seconds = self._watch.read()
        self._watch.reset()
        if "tokens" not in sums or seconds <= 0:
            return {}
        tokens, positions = sums["tokens"].item(), sums["positions"].item()
        found = {"padding_share": 1 - tokens / positions}
        tokens, self._earlier_tokens = tokens - self._earlier_tokens, 0.0
        found["tokens_per_second"] = tokens / seconds
        if self._operations:
            rate = self._operations * tokens / seconds
            found["tflops"] = rate / 1e12
            found["mfu"] = rate / (self._peak * self._args.world_size)
        return found
