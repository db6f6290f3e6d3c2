"""Training a supernet: a path for each step, and gradients of that path alone."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback

from bertkernels.errors import InputError
from bertkernels.models.electra import encoder_config
from bertkernels.models.supernet import (
    count_update,
    path_of,
    path_parameters,
    set_path,
    slot_names,
    update_counts,
)
from bertkernels.training.path_sampling import PATH_SAMPLERS
from bertkernels.training.results_file import write_json
from bertkernels.training.training_arguments import RunArguments

UPDATES_FILE = "slot_updates.json"


def check_supernet_run(run: RunArguments) -> None:
    """Raises InputError for what needs every step to be the same computation."""
    for flag in ("cuda_graphs", "torch_compile", "deepspeed"):
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

    def __init__(self, model: PreTrainedModel, strategy: str, seed: int) -> None:
        self._model = model
        self._own = path_of(model.config, encoder_config(model.config).parsed_plan)
        kinds = encoder_config(model.config).supernet_kinds
        self._paths = PATH_SAMPLERS[strategy](kinds, len(self._own), seed)
        model._ddp_params_and_buffers_to_ignore = slot_names(model)  # torch's name for it

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        set_path(self._model, self._paths.path(state.global_step))

    def on_step_end(self, args, state, control, **kwargs) -> None:
        count_update(self._model)
        set_path(self._model, self._own)

    def on_save(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            self.write_counts(Path(args.output_dir))

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.on_save(args, state, control)

    def write_counts(self, folder: Path) -> None:
        """Writes for each kind how many steps it was trained in each slot; the weights' files hold it too."""
        write_json(folder / UPDATES_FILE, update_counts(self._model))

    def extremes(self) -> dict[str, int]:
        """What to log: how often the kinds that were trained least and most were, of all slots."""
        counts = [count for row in update_counts(self._model).values() for count in row]
        return {"slot_updates_min": min(counts), "slot_updates_max": max(counts)}

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
