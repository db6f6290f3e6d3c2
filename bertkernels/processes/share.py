"""What processes that this package starts have in common: their share of the machine, and that they end with it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch


def threads_each(workers: int) -> int:
    """Threads of each of so many processes."""
    return max(1, torch.get_num_threads() // workers)


@contextmanager
def share(number: int, workers: int) -> Iterator[None]:
    """Has processes that are started meanwhile find their share of the machine in their environment: threads, and of
    several GPUs one. They look at it when they import torch.

    Args:
        number: of the process, from 0, of so many workers.
    """
    variables = {"OMP_NUM_THREADS": str(threads_each(workers)), **_one_gpu(number)}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def end_with(parent: Connection) -> None:
    """Ends this process when the other end of the pipe closes, as it does when the parent ends, however it ends."""
    threading.Thread(target=_wait_for_end, args=(parent,), daemon=True).start()


def _wait_for_end(parent: Connection) -> None:
    try:
        parent.recv()
    except EOFError:
        os._exit(1)


def _one_gpu(number: int) -> dict[str, str]:
    count = torch.cuda.device_count()
    if count < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[number % count]}
