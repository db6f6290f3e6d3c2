"""Inputs at addresses that stay: what a CUDA graph reads."""

from collections.abc import Mapping

import torch

ShapeKey = tuple[tuple[str, torch.Size, torch.dtype], ...]


def shape_key(inputs: Mapping[str, torch.Tensor]) -> ShapeKey:
    """What inputs must have in common to be read by one graph: names, shapes and dtypes.

    Raises TypeError where one is no tensor: a graph would keep the value it was recorded with.
    """
    for name, x in inputs.items():
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"inputs of a CUDA graph must be tensors, {name} is a {type(x).__name__}")
    return tuple((name, x.shape, x.dtype) for name, x in sorted(inputs.items()))


class StaticInputs:
    """Buffers of the shapes of some inputs, to be filled with others of the same shapes."""

    def __init__(self, inputs: Mapping[str, torch.Tensor], device: torch.device):
        self.key = shape_key(inputs)
        self.tensors = {name: torch.empty(x.shape, dtype=x.dtype, device=device).copy_(x) for name, x in inputs.items()}

    def fill(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Copies inputs in. Raises ValueError where their names, shapes or dtypes are others."""
        if shape_key(inputs) != self.key:
            raise ValueError(f"these buffers hold {self.key}, not {shape_key(inputs)}")
        for name, buffer in self.tensors.items():
            buffer.copy_(inputs[name], non_blocking=True)
