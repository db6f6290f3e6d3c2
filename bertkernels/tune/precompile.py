"""Compiles candidates on all cores before they are run: compiling takes seconds a candidate, timing it milliseconds."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import torch

from bertkernels.kernels import tuning
from bertkernels.kernels.tuning import Configuration

from .jobs import Job, jobs


class Precompiler:
    """Has other processes launch candidates once, which leaves their code in Triton's cache on disk.

    A batch of one sequence of two tokens will do: no number of tokens changes the code. What fails to compile there
    fails again where it counts. A context manager around the processes.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, workers: int | None = None):
        self._device, self._dtype = device, dtype
        workers = workers or max(1, (os.cpu_count() or 1) - 1)
        spawn = multiprocessing.get_context("spawn")  # a fork cannot use the GPU
        ignore_interrupts = (signal.SIGINT, signal.SIG_IGN)  # this process ends the others in good order
        self._pool = ProcessPoolExecutor(workers, spawn, signal.signal, ignore_interrupts)

    def __enter__(self) -> "Precompiler":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, job: Job, candidates: Sequence[Configuration], seconds: float) -> None:
        """Returns when all are compiled, or the seconds are over."""
        futures: list[Future] = []
        size = next(iter(job.subjects))
        try:
            for candidate in candidates:
                asked = (job.op, size, job.kernel, job.key, candidate, self._dtype, self._device)
                futures.append(self._pool.submit(compile_candidate, *asked))
        except BrokenProcessPool:  # a crash of the driver's or the compiler's: from now on all compile where they run
            pass
        wait(futures, None if seconds == float("inf") else seconds)
        for future in futures:
            future.cancel()


def compile_candidate(
    op: str,
    size: str,
    kernel: str,
    key: str,
    candidate: Configuration,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Launches this job of this model's once, on as little as there can be."""
    (job,) = (job for job in jobs([op], [size], dtype) if (job.kernel, job.key) == (kernel, key))
    with tuning.trial(kernel, candidate):
        job.subjects[size].build(1, 2, device)()
