"""`depthwise_conv` beside the transposes and `conv1d` of Hugging Face's ConvBERT."""

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


BENCH = OpBench("depthwise_conv", shapes, ops.depthwise_conv, {HUGGING_FACE: transposed_conv1d})
