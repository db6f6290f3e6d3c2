"""`mixed_attention` beside Hugging Face's way and beside torch's attention and our convolution, joined."""

import math

import torch

from bertkernels import ops

from .case import Case, dimensions
from .light_conv import unfold_path
from .matrix_products import Operands
from .op_bench import HUGGING_FACE, OpBench, Shape

SDPA = "SDPA + light_conv"


def hugging_face(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, conv_values: torch.Tensor, conv_logits: torch.Tensor
) -> torch.Tensor:
    """What Hugging Face's ConvBERT does after the projections, step by step: [B, T, 2·H·D]."""
    convolved = unfold_path(conv_values, conv_logits)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))  # [B, H, T, D]
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # [B, H, T, T]
    context = (scores.softmax(-1) @ value).permute(0, 2, 1, 3).contiguous()  # [B, T, H, D]
    return torch.cat([context, convolved], 2).flatten(2)


def sdpa_and_light_conv(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, conv_values: torch.Tensor, conv_logits: torch.Tensor
) -> torch.Tensor:
    """torch's scaled dot-product attention, `light_conv`, and a copy of both into one buffer: [B, T, 2·H·D]."""
    attended = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)))
    convolved = ops.light_conv(conv_values, conv_logits)
    return torch.cat([attended.transpose(1, 2), convolved], 2).flatten(2)


def operands(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, conv_values: torch.Tensor, conv_logits: torch.Tensor
) -> list[Operands]:
    """The attention's: [B·H, T, D] by its transpose, and [B·H, T, T] by [B·H, T, D], heads one after the other."""
    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    tokens = query.shape[1]
    return [(query, key.mT), (query.new_full((len(query), tokens, tokens), 1 / tokens), value)]


def shapes(case: Case) -> tuple[list[Shape], Shape]:
    """query, key, value and conv_values [B, T, H, D] and conv_logits [B, T, H, K] → [B, T, 2·H·D]."""
    size = dimensions(case.size)
    rows = (case.batch, case.tokens, size.heads)
    heads = (*rows, size.head_width)
    return [heads] * 4 + [(*rows, size.taps)], (case.batch, case.tokens, 2 * size.heads * size.head_width)


BENCH = OpBench(
    "mixed_attention",
    shapes,
    ops.mixed_attention,
    {HUGGING_FACE: hugging_face, SDPA: sdpa_and_light_conv},
    operands=operands,
)
