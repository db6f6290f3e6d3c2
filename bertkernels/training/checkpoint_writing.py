"""Checkpoints that are there whole or not at all: written beside their place, then sealed and renamed."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from bertkernels.errors import OutputError
from bertkernels.training.checkpoints import checkpoints, publish


@contextlib.contextmanager
def staged(checkpoint: Path, accelerator: Accelerator, publishes: bool) -> Iterator[Path]:
    """Yields the folder in which all processes write the checkpoint, by its own name; on leaving it goes to its place.

    `publishes` is true on the process that does so; the others wait. Raises OutputError where something could not be
    written, saying which checkpoint is the last whole one; what was written is gone then.
    """
    staging = checkpoint.parent / f".writing-{checkpoint.name}"
    if publishes:
        shutil.rmtree(staging, ignore_errors=True)  # what a killed run left
    accelerator.wait_for_everyone()
    try:
        yield staging
        accelerator.wait_for_everyone()
        if publishes:
            publish(staging / checkpoint.name, checkpoint)
            staging.rmdir()
    except (OSError, RuntimeError, SafetensorError) as error:  # safetensors and torch wrap a full disk's error
        shutil.rmtree(staging, ignore_errors=True)
        whole = checkpoints(checkpoint.parent)
        kept = f"the last whole one is {whole[-1].name}" if whole else "there is no earlier one"
        reason = " ".join(str(error).split())
        raise OutputError(f"{checkpoint} could not be written ({reason}); {kept}") from error
    accelerator.wait_for_everyone()


def remove_old(newest: Path, best: str | None, limit: int | None) -> None:
    """Removes all but `limit` checkpoints of a run, the newest and the best among those that stay; None: keeps all."""
    if not limit:
        return
    old = [path for path in checkpoints(newest.parent) if path != newest and str(path) != best]
    kept = 1 + (best is not None and best != str(newest))
    for path in old[: len(old) - max(limit - kept, 0)]:
        shutil.rmtree(path)
