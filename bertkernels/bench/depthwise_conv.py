"""`depthwise_conv` beside the transposes and `conv1d` of Hugging Face's ConvBERT."""

import importlib
from collections.abc import Callable

import torch

from bertkernels import ops

from .case import Case, dimensions
from .op_bench import HUGGING_FACE, OpBench, Shape


def transposed_conv1d(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[B, T, C] → [B, T, C] through a channels-first `conv1d` with C groups; both transposes are left as views."""
    channels, taps = weight.shape
    return torch.nn.functional.conv1d(
        x.transpose(1, 2), weight.unsqueeze(1), padding=taps // 2, groups=channels
    ).transpose(1, 2)


def shapes(case: Case) -> tuple[list[Shape], Shape]:
    """x [B, T, C] and weight [C, K] → [B, T, C]."""
    size = dimensions(case.size)
    x = (case.batch, case.tokens, size.channels)
    return [x, (size.channels, size.taps)], x


def kernel(x: torch.Tensor, weight: torch.Tensor, impl: str) -> Callable[[], None]:
    """The launch of the op's kernel into a buffer that is there."""
    op = importlib.import_module("bertkernels.ops.depthwise_conv")  # in the package the name is the function's
    launch, out = op.launch_forward.select(x.device.type, impl), torch.empty_like(x)
    return lambda: launch(out, x, weight, None, None, None, False)


BENCH = OpBench("depthwise_conv", shapes, ops.depthwise_conv, {HUGGING_FACE: transposed_conv1d}, kernel=kernel)
