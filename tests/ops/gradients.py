"""Outputs together with gradients."""

from collections.abc import Callable, Sequence

import torch


def leaves(*tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """The same memory and strides as leaves that want a gradient; None stays."""
    return [None if tensor is None else tensor.detach().requires_grad_() for tensor in tensors]


def with_gradients(
    function: Callable,
    inputs: Sequence[torch.Tensor | None],
    grad: torch.Tensor,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, ...]:
    """function(*inputs), then its gradient for each input that is not None, where `grad` comes back; in `dtype`."""
    if dtype is not None:
        inputs, grad = [None if tensor is None else tensor.to(dtype) for tensor in inputs], grad.to(dtype)
    inputs = leaves(*inputs)
    out = function(*inputs)
    return out.detach(), *torch.autograd.grad(out, [tensor for tensor in inputs if tensor is not None], grad)
