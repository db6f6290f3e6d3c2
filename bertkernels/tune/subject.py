"""What is tuned: one kernel, compiled for one width and dtype."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from bertkernels.kernels.tuning import Configuration

Call = Callable[[], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Subject:
    """A kernel whose configurations are keyed on `sizes`, as one of the published models launches it.

    Attributes:
        kernel: its name in `bertkernels.kernels.tuning`.
        sizes: what beside the dtype changes its code, in its key's order.
        candidates: configurations to try in place of its rule.
        build: B, T and the device → a call that launches it on B sequences of T tokens, and returns what it computed.
    """

    kernel: str
    sizes: Mapping[str, int]
    candidates: tuple[Configuration, ...]
    build: Callable[[int, int, torch.device], Call]


class Draw:
    """Random tensors of one dtype on one device, the same in every run."""

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self._options = {"device": device, "dtype": dtype, "generator": torch.Generator(device).manual_seed(0)}

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, **self._options)
