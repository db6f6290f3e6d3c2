"""Training steps as CUDA graphs: forward and backward pass of a batch in one launch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bertkernels.errors import InputError
from bertkernels.graphs import Recording, StaticInputs, shape_key
from bertkernels.nn import static_shapes

if TYPE_CHECKING:
    from bertkernels.training.running_sums import RunningSums
    from bertkernels.training.training_arguments import RunArguments

_WARM_UPS = 3  # steps of a shape before it is recorded
_MOST_GRAPHS = 8


def check_cuda_graphs(run: RunArguments) -> None:
    """Raises InputError where `run.cuda_graphs` is asked for and cannot be."""
    if not run.cuda_graphs:
        return
    if run.device.type != "cuda":
        raise InputError(f"--cuda_graphs needs a CUDA GPU, this run is on {run.device.type}")
    several = run.world_size > 1 or run.n_gpu > 1 or run.fsdp or run.deepspeed
    clashes = {
        "several processes or GPUs: gradients are exchanged while they are computed": several,
        "--fp16, whose loss scale changes: use --bf16": run.fp16,
        "--gradient_checkpointing, which sets back the random state": run.gradient_checkpointing,
        "--torch_compile, which has CUDA graphs of its own (--torch_compile_mode reduce-overhead)": run.torch_compile,
        "--torch_empty_cache_steps": run.torch_empty_cache_steps is not None,
    }
    for clash, there in clashes.items():
        if there:
            raise InputError(f"--cuda_graphs does not go with {clash}")


class GraphedSteps:
    """Runs forward and backward pass of training steps through CUDA graphs, one for each shape of batch.

    The first steps of a shape run as they are, the next one is recorded, further ones are replayed. Optimizer,
    clipping, accumulation and logging stay outside and see no difference: gradients add up in buffers of their own,
    which are zeroed where the trainer dropped them, and what a step adds to the log is added after each replay.
    Dropout draws anew in each replay, for its seeds come from torch's generator.

    Why not `torch.compile(mode="reduce-overhead")`: this package's ops are single launches already, so there is little
    left to fuse for the time it takes to compile; and its graphs own the gradients, which accumulation would lose.
    Batches run padded with lengths and not packed, as in `bertkernels.graphs.GraphedForward`, for the reasons there.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._seen: Counter = Counter()
        self._graphs: dict[Any, tuple[StaticInputs, Recording]] = {}
        self._trained: set[nn.Parameter] = set()  # those that steps gave a gradient
        self._gradients: dict[nn.Parameter, torch.Tensor] = {}
        self._pool: Any = None

    def run(
        self,
        step: Callable[[dict[str, torch.Tensor], RunningSums], torch.Tensor],
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        sums: RunningSums,
        variant: Any = None,
    ) -> torch.Tensor:
        """Does one step.

        Args:
            step: (inputs, sums) → the loss, detached; computes gradients, adds to sums what is to be logged.
            model: whose gradients it computes.
            inputs: on the device.
            sums: what the step adds to.
            variant: what else distinguishes steps that look alike: they get graphs of their own.

        Returns:
            The loss, in memory of its own.
        """
        key = (shape_key(inputs), variant)
        if key not in self._graphs:
            self._seen[key] += 1
            if self._seen[key] <= _WARM_UPS or len(self._graphs) >= _MOST_GRAPHS:
                with static_shapes():
                    loss = Recording.warm_up(lambda: step(inputs, sums))
                self._trained.update(parameter for parameter in model.parameters() if parameter.grad is not None)
                return loss
            self._keep_gradients()
            self._graphs[key] = self._record(step, inputs)
        buffers, recording = self._graphs[key]
        buffers.fill(inputs)
        self._restore_gradients()
        recording.replay()
        loss, added = recording.results
        for values in added:
            sums.add({name: value.clone() for name, value in values.items()})
        return loss.clone()

    def _record(self, step: Callable, inputs: dict[str, torch.Tensor]) -> tuple[StaticInputs, Recording]:
        buffers = StaticInputs(inputs, self._device)
        self._pool = self._pool or Recording.new_pool()

        def run() -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
            added = _Additions()
            return step(buffers.tensors, added), added.values

        with static_shapes():
            return buffers, Recording(run, self._pool)

    def _keep_gradients(self) -> None:
        """Gives each parameter that trains a gradient that stays where it is: a graph adds to it."""
        for parameter in self._trained - self._gradients.keys():
            self._gradients[parameter] = torch.zeros_like(parameter)
        self._restore_gradients()

    def _restore_gradients(self) -> None:
        dropped = [kept for parameter, kept in self._gradients.items() if parameter.grad is None]
        if dropped:
            torch._foreach_zero_(dropped)
        for parameter, kept in self._gradients.items():
            if parameter.grad is not None and parameter.grad is not kept:
                kept.copy_(parameter.grad)
            parameter.grad = kept


class _Additions:
    """Takes what a step adds to the running sums while it is recorded."""

    def __init__(self) -> None:
        self.values: list[dict[str, torch.Tensor]] = []

    def add(self, values: dict[str, torch.Tensor]) -> None:
        self.values.append({name: value.detach() for name, value in values.items()})
