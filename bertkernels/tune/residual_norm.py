"""The kernels of `residual_norm`, on the channels of a published model, with dropout as in training."""

from collections.abc import Iterator

import torch

from bertkernels.bench.case import Dimensions
from bertkernels.kernels import residual_norm as kernels
from bertkernels.ops.residual_norm import residual_norm_backward_op, residual_norm_op

from .subject import Call, Draw, Subject

DROPOUT = 0.1


def subjects(model: Dimensions, dtype: torch.dtype) -> Iterator[Subject]:
    width = model.channels

    def inputs(batch: int, tokens: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        """x, residual, weight, bias, seed."""
        draw, seed = Draw(device, dtype), torch.tensor([1], device=device)
        return draw(batch * tokens, width), draw(batch * tokens, width), draw(width), draw(width), seed

    def forward(batch: int, tokens: int, device: torch.device) -> Call:
        tensors = inputs(batch, tokens, device)
        return lambda: residual_norm_op(*tensors, 1e-12, DROPOUT, "triton")

    def backward(batch: int, tokens: int, device: torch.device) -> Call:
        x, residual, weight, bias, seed = inputs(batch, tokens, device)
        _, moments = residual_norm_op(x, residual, weight, bias, seed, 1e-12, DROPOUT, "triton")
        grad = x.flip(0)
        tensors = (grad, x, residual, weight, seed, moments)
        return lambda: residual_norm_backward_op(*tensors, DROPOUT, [True] * 4, "triton")

    for kernel, build in (("residual_norm_fwd", forward), ("residual_norm_bwd", backward)):
        yield Subject(kernel, {"C": width}, tuple(kernels.candidates(kernel, dtype, width)), build)
