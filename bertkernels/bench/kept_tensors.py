"""What a training step keeps between its forward and its backward pass."""

import torch

from .case import Case
from .select import bench_of


def kept_bytes(case: Case, peer: str) -> dict[str, int]:
    """Bytes of what autograd keeps after the forward pass, parameters and views of the same memory not counted twice,
    by shape (such as "8×512×768"), largest first."""
    from .encoder import models

    parameters = {x.untyped_storage().data_ptr() for x in models(case.size, case.device, case.dtype)[0].parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept.setdefault(storage.data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = bench_of(case).peers(case, only=[peer])[peer].forward()
    by_shape: dict[str, int] = {}
    for tensor in kept.values():
        shape = "×".join(map(str, tensor.shape))
        by_shape[shape] = by_shape.get(shape, 0) + tensor.untyped_storage().nbytes()
    del out
    return dict(sorted(by_shape.items(), key=lambda item: -item[1]))
