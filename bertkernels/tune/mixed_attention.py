"""The kernels of `mixed_attention`, on the heads of a published model, with and without dropout."""

from collections.abc import Iterator

import torch

from bertkernels.bench.case import Dimensions
from bertkernels.kernels import mixed_attention as kernels
from bertkernels.ops.mixed_attention import mixed_attention_backward_op, mixed_attention_op

from .subject import Call, Draw, Subject


def subjects(model: Dimensions, dtype: torch.dtype) -> Iterator[Subject]:
    for dropout in (False, True):
        yield from _subjects(model, dtype, dropout)


def _subjects(model: Dimensions, dtype: torch.dtype, dropout: bool) -> Iterator[Subject]:
    width, probability = model.head_width, 0.1 if dropout else 0.0

    def inputs(batch: int, tokens: int, device: torch.device) -> tuple[list[torch.Tensor], tuple]:
        """Query, key, value, values and logits of the convolution; and what follows all tensors."""
        draw, rows = Draw(device, dtype), (batch, tokens, model.heads)
        seed = torch.tensor([1], device=device) if dropout else None
        tensors = [*(draw(*rows, width) for _ in range(4)), draw(*rows, model.taps)]
        return tensors, (None, None, None, seed, probability, None, "triton")

    def forward(batch: int, tokens: int, device: torch.device) -> Call:
        tensors, options = inputs(batch, tokens, device)
        return lambda: mixed_attention_op(*tensors, *options)

    def backward(batch: int, tokens: int, device: torch.device) -> Call:
        tensors, options = inputs(batch, tokens, device)
        out, lse = mixed_attention_op(*tensors, *options)
        grad = out.flip(0)
        return lambda: mixed_attention_backward_op(grad, *tensors, out, lse, *options)

    sizes = {"D": width, "K": model.taps, "dropout": dropout}
    for kernel, build in (
        ("mixed_attention_fwd", forward),
        ("mixed_attention_bwd_query", backward),
        ("mixed_attention_bwd_key", backward),
    ):
        yield Subject(kernel, sizes, tuple(kernels.candidates(kernel, dtype, **sizes)), build)
