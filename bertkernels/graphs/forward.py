"""Inference through CUDA graphs."""

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from bertkernels.nn import static_shapes

from .recording import Recording
from .static_inputs import ShapeKey, StaticInputs, shape_key

_WARM_UPS = 3


class GraphedForward:
    """Calls a model's forward pass through a CUDA graph, one for each shape of its inputs.

    A shape's first call runs the model a few times and records it; further calls copy their inputs into the graph's
    buffers and replay it, whatever lengths, masks and tokens they hold. Small models, whose operations take less time
    than their launches, gain most. A graph keeps the memory of its results and, shared with the others, of what lies
    between: pad batches to few shapes.

    Graphs hold one shape, so batches run padded: models that leave padding out (`padding="exact"`,
    `patch(model, unpad=True)`) run on [B, T] with lengths (`bertkernels.nn.static_shapes`), with the same results. A
    packed batch would need a budget of tokens that some batches overflow and most do not fill, and its longest sequence
    is an argument to attention kernels; where launches are the bound, padding costs little.

    Args:
        model: on a CUDA device, in evaluation mode, and not to be moved or given other parameters; changing them in
            place is fine.
        most_graphs: a call with a shape beyond so many runs the model itself.

    Raises:
        ValueError: the model is not on a CUDA device, or in training mode.
    """

    def __init__(self, model: nn.Module, most_graphs: int = 16):
        self.device = next(model.parameters()).device
        if self.device.type != "cuda":
            raise ValueError(
                f"CUDA graphs need a model on a CUDA device, this {type(model).__name__} is on {self.device}"
            )
        if model.training:
            raise ValueError(f"{type(model).__name__} is in training mode: call eval() first")
        if most_graphs < 1:
            raise ValueError(f"most_graphs must be at least 1, got {most_graphs}")
        self.model = model
        self.most_graphs = most_graphs
        self._graphs: dict[ShapeKey, tuple[StaticInputs, Recording]] = {}
        self._pool = Recording.new_pool()

    @torch.no_grad()
    def __call__(self, **inputs: torch.Tensor | None) -> Any:
        """The model's output for these inputs, in memory of its own; inputs may be on the CPU. Pass all by name."""
        given = {name: x for name, x in inputs.items() if x is not None}
        key = shape_key(given)
        if key not in self._graphs:
            if len(self._graphs) >= self.most_graphs:
                return self.model(**{name: x.to(self.device) for name, x in given.items()})
            self._graphs[key] = self._record(given)
        buffers, recording = self._graphs[key]
        buffers.fill(given)
        recording.replay()
        return tree_map_only(torch.Tensor, torch.clone, recording.results)

    @property
    def shapes(self) -> list[ShapeKey]:
        """Names, shapes and dtypes of the inputs that there are graphs for."""
        return list(self._graphs)

    def _record(self, inputs: dict[str, torch.Tensor]) -> tuple[StaticInputs, Recording]:
        buffers = StaticInputs(inputs, self.device)

        def run() -> Any:
            return self.model(**buffers.tensors)

        with torch.cuda.device(self.device), static_shapes():
            for _ in range(_WARM_UPS):
                Recording.warm_up(run)
            return buffers, Recording(run, self._pool)
