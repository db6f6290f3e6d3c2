"""`light_conv` beside the unfold that Hugging Face's ConvBERT does it with."""

import importlib
from collections.abc import Callable

import torch

from bertkernels import ops

from .case import Case, dimensions
from .depthwise_conv import transposed_conv1d
from .op_bench import HUGGING_FACE, OpBench, Shape

STATIC = "static conv1d"


def unfold_path(values: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """What Hugging Face's ConvBERT does between the projections and its context, step by step: [B, T, H, D].

    The values are unfolded into K copies of themselves (`torch.nn.functional.unfold`), copied once more into the order
    of a batch of small matrices, and each multiplied by its token's kernel.
    """
    batch, tokens, heads, width = values.shape
    taps = logits.shape[-1]
    kernels = logits.reshape(-1, taps, 1).softmax(1)  # [B·T·H, K, 1]
    image = values.flatten(2).transpose(1, 2).contiguous().unsqueeze(-1)  # [B, H·D, T, 1]
    windows = torch.nn.functional.unfold(image, (taps, 1), padding=((taps - 1) // 2, 0))  # [B, H·D·K, T]
    windows = windows.transpose(1, 2).reshape(-1, width, taps)  # [B·T·H, D, K]
    return (windows @ kernels).reshape(batch, tokens, heads, width)


def shapes(case: Case) -> tuple[list[Shape], Shape]:
    """values [B, T, H, D] and logits [B, T, H, K] → [B, T, H, D]."""
    size = dimensions(case.size)
    rows = (case.batch, case.tokens, size.heads)
    return [(*rows, size.head_width), (*rows, size.taps)], (*rows, size.head_width)


def static_conv1d(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[B, T, H, D] → [B, T, H, D] with one kernel a channel, weight [H·D, K], in place of one a token and head."""
    return transposed_conv1d(x.flatten(2), weight).unflatten(-1, x.shape[2:])


def static_shapes(case: Case) -> list[Shape]:
    """x [B, T, H, D] and weight [H·D, K]."""
    size = dimensions(case.size)
    return [(case.batch, case.tokens, size.heads, size.head_width), (size.heads * size.head_width, size.taps)]


def kernel(values: torch.Tensor, logits: torch.Tensor, impl: str) -> Callable[[], None]:
    """The launch of the op's kernel into a buffer that is there."""
    op = importlib.import_module("bertkernels.ops.light_conv")  # in the package the name is the function's
    launch, out = op.launch_forward.select(values.device.type, impl), torch.empty_like(values)
    return lambda: launch(out, values, logits, None, None, True, False)


BENCH = OpBench(
    "light_conv",
    shapes,
    ops.light_conv,
    {HUGGING_FACE: unfold_path},
    easier={STATIC: (static_shapes, static_conv1d)},
    kernel=kernel,
)
