"""LV-BERT's whole dynamic-convolution sub-layer beside plain torch, whose convolution is Hugging Face's unfold."""

import torch

from bertkernels import ops
from bertkernels.models.presets import preset
from bertkernels.ops import dispatch

from .case import Case
from .light_conv import unfold_path
from .matrix_products import Operands
from .op_bench import HUGGING_FACE, OpBench, Shape

OP_BY_OP = "our ops one by one"
EPS = 1e-12
_PRESETS = {"small": "lvbert-small", "medium-small": "lvbert-medium", "base": "lvbert-base"}

# the sub-layer's tensors, as `shapes` has them: x, depthwise, weights and biases in the op's order, the norm's two
Tensors = tuple[torch.Tensor, ...]


def plain_torch(x: torch.Tensor, depthwise: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    """The formula step by step, both convolutions as Hugging Face's ConvBERT does them (it has no LV-BERT):
    `conv1d`, channels first, and unfold. [B, T, C] → [B, T, C]."""
    value, gate, pointwise, kernel, output, norm = _layers(rest)
    linear = torch.nn.functional.linear
    gated = linear(x, *value) * torch.sigmoid(linear(x, *gate))  # [B, T, H·D]
    width, taps = depthwise.shape
    spans = torch.nn.functional.conv1d(gated.mT, depthwise.unsqueeze(1), padding=taps // 2, groups=width)
    mixed = torch.nn.functional.conv1d(spans, pointwise[0].unsqueeze(-1), pointwise[1]).mT  # [B, T, H·D]
    logits = linear(mixed, *kernel).unflatten(-1, (-1, taps))  # [B, T, H, K]
    convolved = unfold_path(gated.unflatten(-1, (logits.shape[2], -1)), logits)
    return torch.nn.functional.layer_norm(x + linear(convolved.flatten(2), *output), x.shape[-1:], *norm, EPS)


def one_by_one(x: torch.Tensor, depthwise: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    """The same from this package's smaller ops, as the module has them where the sub-layer is not one op."""
    value, gate, pointwise, kernel, output, norm = _layers(rest)
    linear, taps = torch.nn.functional.linear, depthwise.shape[1]
    gated = ops.glu(linear(x, *value), linear(x, *gate))  # [B, T, H·D]
    spans = ops.depthwise_conv(gated, depthwise)
    logits = linear(spans, kernel[0] @ pointwise[0], kernel[0] @ pointwise[1] + kernel[1]).unflatten(-1, (-1, taps))
    convolved = ops.light_conv(gated.unflatten(-1, (logits.shape[2], -1)), logits)
    return ops.residual_norm(linear(convolved.flatten(2), *output), x, *norm, eps=EPS)


def ours(x: torch.Tensor, depthwise: torch.Tensor, *rest: torch.Tensor, impl: str) -> torch.Tensor:
    """What `bertkernels.nn.DynamicConv` in its frame runs."""
    if x.device.type != "cpu" or not dispatch.runs_on("dynamic_conv_block", "cpu"):
        return one_by_one(x, depthwise, *rest)
    heads = rest[3].shape[0] // depthwise.shape[1]
    return ops.dynamic_conv_block(x, depthwise, list(rest[:5]), list(rest[5:10]), *rest[10:], heads, eps=EPS)


def operands(x: torch.Tensor, depthwise: torch.Tensor, *rest: torch.Tensor) -> list[Operands]:
    """Those of the layers as the published model has them: of pointwise and kernel one after the other, too."""
    rows = x.flatten(0, 1)
    inner = rows.new_empty(rows.shape[0], depthwise.shape[0]).normal_()
    return [(left, weight.mT) for left, weight in zip((rows, rows, inner, inner, inner), rest, strict=False)]


def shapes(case: Case) -> tuple[list[Shape], Shape]:
    """x [B, T, C], depthwise [C, K], five weights and their biases, the norm's → [B, T, C]."""
    channels, heads, taps = _size(case)
    x, square, vector = (case.batch, case.tokens, channels), (channels, channels), (channels,)
    weights = [square, square, square, (heads * taps, channels), square]
    return [x, (channels, taps), *weights, *(weight[:1] for weight in weights), vector, vector], x


def deviations(case: Case) -> tuple[float, ...]:
    """Weights by the square root of how many products they add up."""
    channels, _, taps = _size(case)
    return 1, taps**-0.5, *[channels**-0.5] * 5


def _size(case: Case) -> tuple[int, int, int]:
    """C, H and K of the published LV-BERT that stands beside the ConvBERT of this size."""
    config = preset(_PRESETS[case.size])
    return config.hidden_size, config.num_attention_heads, config.conv_kernel_size


def _layers(rest: Tensors) -> tuple[Tensors, ...]:
    """Weight and bias of value, gate, pointwise, kernel and output, then the norm's."""
    return *zip(rest[:5], rest[5:10], strict=True), rest[10:]


# `glu`'s implementations stand for the sub-layer's, which is one op on the CPU and several elsewhere
BENCH = OpBench(
    "glu", shapes, ours, {HUGGING_FACE: plain_torch, OP_BY_OP: one_by_one}, operands=operands, deviations=deviations
)
