"""Weights sharded over the processes of a run (`--fsdp`)."""

from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict


def let_cpus_shard() -> None:
    """Makes accelerate shard over CPU processes too: torch can, but accelerate takes `--fsdp` there for plain data
    parallelism, without a word. To be called before an `Accelerator` is made; changes nothing on GPUs.
    """
    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU  # of which it makes FSDP; nothing else asks before that


def load_whole(model: nn.Module, weights: dict[str, torch.Tensor]) -> Any:
    """Loads whole weights into a sharded model; every process must call it, the first has the weights.

    Returns what `load_state_dict` returns: names missing and unexpected. A module that stands in the model under two
    names is loaded under the first, the only one that torch looks at here; the others come out as missing.
    """
    names = {module: name for name, module in model.named_modules()}
    again = tuple(f"{name}." for name, module in model.named_modules(remove_duplicate=False) if names[module] != name)
    own = {name: weight for name, weight in weights.items() if not name.startswith(again)}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    return set_model_state_dict(model, own, options=options)
