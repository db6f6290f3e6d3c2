"""`span_conv` beside Hugging Face's way of the same work, and beside our smaller ops one by one."""

import torch

from bertkernels import ops

from .case import Case, dimensions
from .light_conv import unfold_path
from .matrix_products import Operands
from .op_bench import HUGGING_FACE, OpBench, Shape

OP_BY_OP = "our ops one by one"


def hugging_face(
    x: torch.Tensor,
    query: torch.Tensor,
    values: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor,
) -> torch.Tensor:
    """What Hugging Face's ConvBERT does, step by step: [B, T, H, D]. Both halves of the separable convolution are
    `conv1d`, channels first; the unfold path of `light_conv` follows."""
    channels, taps = depthwise_weight.shape
    spans = torch.nn.functional.conv1d(
        x.transpose(1, 2), depthwise_weight.unsqueeze(1), padding=taps // 2, groups=channels
    )  # [B, C, T]
    keys = torch.nn.functional.conv1d(spans, pointwise_weight.unsqueeze(-1))  # [B, H·D, T]
    keys = (keys + pointwise_bias.unsqueeze(-1)).transpose(1, 2) * query.flatten(2)  # [B, T, H·D]
    logits = torch.nn.functional.linear(keys, kernel_weight, kernel_bias)  # [B, T, H·K]
    return unfold_path(values, logits.unflatten(-1, (query.shape[2], -1)))


def one_by_one(
    x: torch.Tensor,
    query: torch.Tensor,
    values: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor,
) -> torch.Tensor:
    """The same from this package's smaller ops: spans, keys and logits each go through memory."""
    spans = ops.depthwise_conv(x, depthwise_weight)  # [B, T, C]
    keys = ops.linear(spans, pointwise_weight, pointwise_bias, multiplier=query.flatten(2))  # [B, T, H·D]
    logits = ops.linear(keys, kernel_weight, kernel_bias)  # [B, T, H·K]
    return ops.light_conv(values, logits.unflatten(-1, (query.shape[2], -1)))


def operands(
    x: torch.Tensor,
    query: torch.Tensor,
    values: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor,
) -> list[Operands]:
    """Spans [M, C] by the pointwise weight, keys [M, H·D] by the kernels'; M = B·T."""
    return [(x.flatten(0, 1), pointwise_weight.mT), (query.flatten(2).flatten(0, 1), kernel_weight.mT)]


def shapes(case: Case) -> tuple[list[Shape], Shape]:
    """As the op's arguments: x [B, T, C], query and values [B, T, H, D], weights and biases → [B, T, H, D]."""
    size = dimensions(case.size)
    tokens, width, rows = (case.batch, case.tokens), size.heads * size.head_width, size.heads * size.taps
    heads = (*tokens, size.heads, size.head_width)
    weights = [(size.channels, size.taps), (width, size.channels), (width,), (rows, width), (rows,)]
    return [(*tokens, size.channels), heads, heads, *weights], heads


def deviations(case: Case) -> tuple[float, ...]:
    """Weights by the square root of how many products they add up, so that the softmax sees ordinary logits."""
    size = dimensions(case.size)
    return 1, 1, 1, size.taps**-0.5, size.channels**-0.5, 1, (size.heads * size.head_width) ** -0.5, 1


BENCH = OpBench(
    "span_conv",
    shapes,
    ops.span_conv,
    {HUGGING_FACE: hugging_face, OP_BY_OP: one_by_one},
    operands=operands,
    deviations=deviations,
)
