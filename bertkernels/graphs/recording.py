"""A function of tensors at fixed addresses as a CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch


class Recording:
    """Everything that `function` launches, recorded once; `replay` launches it again, as one.

    It reads what its inputs hold by then and writes its results where they were. Random numbers are new in each replay:
    torch's generator, from which ops of this package draw their dropout's seeds, goes on. Recording runs nothing.

    Args:
        function: takes nothing; waits for the device nowhere, and was run before (see `warm_up`).
        pool: memory shared with other recordings, of which only one runs at a time.
    """

    def __init__(self, function: Callable[[], Any], pool: Any = None):
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self.results = function()

    def replay(self) -> None:
        self._graph.replay()

    @staticmethod
    def new_pool() -> Any:
        return torch.cuda.graph_pool_handle()

    @staticmethod
    def warm_up(function: Callable[[], Any]) -> Any:
        """Runs the function on a stream of its own, as is asked for before a recording, and waits for it there."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            results = function()
        torch.cuda.current_stream().wait_stream(stream)
        return results
