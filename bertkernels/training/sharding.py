"""Weights sharded over the processes of a run (`--fsdp`)."""

from accelerate import PartialState
from accelerate.utils import DistributedType


def let_cpus_shard() -> None:
    """Makes accelerate shard over CPU processes too: torch can, but accelerate takes `--fsdp` there for plain data
    parallelism, without a word. To be called before an `Accelerator` is made; changes nothing on GPUs.
    """
    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU  # of which it makes FSDP; nothing else asks before that
