"""Training a supernet: a path for each step, and gradients of that path alone."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback

from bertkernels.errors import InputError
from bertkernels.models.electra import encoder_config
from bertkernels.models.supernet import path_of, path_parameters, set_path, slot_names
from bertkernels.training.path_sampling import PATH_SAMPLERS
from bertkernels.training.results_file import write_json
from bertkernels.training.training_arguments import RunArguments

UPDATES_FILE = "slot_updates.json"


def check_supernet_run(run: RunArguments) -> None:
    """Raises InputError for what needs every step to be the same computation on the same weights."""
    for flag in ("cuda_graphs", "torch_compile", "deepspeed", "fsdp"):
        if getattr(run, flag):
            raise InputError(f"--{flag} does not go with --supernet_kinds, whose steps take other paths each")


class SupernetSteps(TrainerCallback):
    """Has each optimizer step take the path that the strategy draws for it, and counts how often each kind is trained.

    Sub-layers off the path have no gradient in a step (None, not zeros), so the optimizer leaves them out: neither
    weight decay nor momentum moves them, their moments and step counts stand still, and those that were never trained
    have none. Between steps, in evaluations for example, the supernet runs its own plan.

    Under data parallelism torch's wrapper would wait for gradients of all kinds, or send zeros for those that did not
    run. So it is told to leave the slots alone, and those of the path are averaged in one exchange a step.
    """

    def __init__(self, model: PreTrainedModel, strategy: str, seed: int, earlier: str | None = None) -> None:
        """`earlier`: the folder of the run that this one goes on from, whose counts go on too."""
        self._model = model
        self._own = path_of(model.config, encoder_config(model.config).parsed_plan)
        self._kinds = encoder_config(model.config).supernet_kinds
        self._paths = PATH_SAMPLERS[strategy](self._kinds, len(self._own), seed)
        self._earlier = self._read_counts(None if earlier is None else Path(earlier, UPDATES_FILE))
        self._counts, self._counted = self._earlier.copy(), 0  # [slots, kinds], after so many steps
        model._ddp_params_and_buffers_to_ignore = slot_names(model)  # torch's name for it

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._counts, self._counted = self._earlier.copy(), 0
        while self._counted < state.global_step:  # a resumed run's steps so far: paths depend on nothing else
            self._count(self._paths.path(self._counted))

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        set_path(self._model, self._paths.path(state.global_step))

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._count(self._paths.path(self._counted))
        set_path(self._model, self._own)

    def on_save(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            write_json(Path(args.output_dir, UPDATES_FILE), self.counts())

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.on_save(args, state, control)

    def counts(self) -> dict[str, list[int]]:
        """For each kind how many steps it was trained in each slot."""
        return {kind: self._counts[:, index].tolist() for index, kind in enumerate(self._kinds)}

    def extremes(self) -> dict[str, int]:
        """What to log: how often the kinds that were trained least and most were, of all slots."""
        return {"slot_updates_min": int(self._counts.min()), "slot_updates_max": int(self._counts.max())}

    def _count(self, path: tuple[str, ...]) -> None:
        self._counts[range(len(path)), [self._kinds.index(kind) for kind in path]] += 1
        self._counted += 1

    def _read_counts(self, file: Path | None) -> np.ndarray:
        """int64 [slots, kinds]; zeros where there is no such file."""
        if file is None or not file.is_file():
            return np.zeros((len(self._own), len(self._kinds)), dtype=np.int64)
        counts = json.loads(file.read_text(encoding="utf-8"))
        return np.array([counts[kind] for kind in self._kinds], dtype=np.int64).T

    def average_gradients(self, wrapped: nn.Module) -> None:
        """Averages the path's gradients over processes, once a step when they are complete."""
        if not isinstance(wrapped, nn.parallel.DistributedDataParallel):
            return
        gradients = [p.grad for p in path_parameters(self._model) if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
