"""The same numbers in other memory, and memory that nobody has written yet."""

import contextlib
from collections.abc import Iterator

import pytest
import torch


def swapped(x: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Dimensions dim and dim + 1 lie in the other order; as it is where one of them would be the last."""
    return x if x.dim() < dim + 3 else x.transpose(dim, dim + 1).contiguous().transpose(dim, dim + 1)


def sliced(x: torch.Tensor) -> torch.Tensor:
    """Cut out of wider rows, with NaN on both sides of each."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + 5), float("nan"), dtype=x.dtype, device=x.device)
    wide[..., 3:-2] = x
    return wide[..., 3:-2]


def misaligned(x: torch.Tensor) -> torch.Tensor:
    """Begins one element after where memory was allocated."""
    flat = torch.empty(x.numel() + 1, dtype=x.dtype, device=x.device)
    flat[1:] = x.flatten()
    return flat[1:].view(x.shape)


def transposed(x: torch.Tensor) -> torch.Tensor:
    """The last two dimensions lie in the other order, so that the last is not contiguous."""
    return x.mT.contiguous().mT


def expanded_ones(x: torch.Tensor) -> torch.Tensor:
    """The gradient that x.sum().backward() sends: a single element with strides of zero."""
    return torch.ones((), dtype=x.dtype, device=x.device).expand(x.shape)


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Memory that is allocated empty inside holds NaN: an element that no kernel writes shows."""

    def poisoned(allocate):
        def allocate_poisoned(*args, **kwargs):
            fresh = allocate(*args, **kwargs)
            return fresh.fill_(float("nan")) if fresh.is_floating_point() else fresh

        return allocate_poisoned

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))
        patch.setattr(torch, "empty_like", poisoned(torch.empty_like))
        patch.setattr(torch, "empty", poisoned(torch.empty))
        yield
