"""Runs a call once, for its results, and records what it launches, to be timed."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import triton

import bertkernels.kernels

from .subject import Call


@dataclass(frozen=True)
class Recording:
    """replay: launches the same kernels again. spills: registers that the kernels compiled for it keep in memory."""

    replay: Callable[[], None]
    results: tuple[torch.Tensor, ...]
    spills: int


class GraphRecorder:
    """Records into CUDA graphs.

    A graph holds the launches as they were when it was made, whatever configuration is chosen later, so that those of
    many configurations can be replayed in turns; and replaying it takes next to no time of Python's.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()  # one for all graphs: their results are never looked at

    def __call__(self, call: Call) -> Recording:
        compiled_before = _compiled_kernels()
        with unwritten_memory_is_nan():
            results = call()
        torch.cuda.synchronize()
        spills = sum(kernel.n_spills for name, kernel in _compiled_kernels().items() if name not in compiled_before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            call()
        return Recording(graph.replay, results, spills)


@contextlib.contextmanager
def unwritten_memory_is_nan() -> Iterator[None]:
    """Fresh memory may hold the right results of the configuration before: inside, it holds NaN."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def _compiled_kernels() -> dict[tuple, object]:
    """What Triton has compiled of our kernels in this process."""
    prefix = f"{bertkernels.kernels.__name__}."
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(prefix)]
    kernels = {value for module in modules for value in vars(module).values() if isinstance(value, triton.JITFunction)}
    return {
        (kernel.__name__, device, key): compiled
        for kernel in kernels
        for device, (by_key, *_) in kernel.device_caches.items()
        for key, compiled in by_key.items()
    }
