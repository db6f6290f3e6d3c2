"""The group of processes that train together."""

import atexit
import functools

import torch.distributed


@functools.cache
def leave_at_exit() -> None:
    """Has this process leave its group before it ends: torch may abort where the group's threads still run."""
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
