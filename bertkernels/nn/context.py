"""Mixed attention as one op up to its output layer: on the CPU, where plain modules do just what the op does."""

from collections.abc import Sequence

import torch
from torch import nn

from .. import ops
from ..ops import dispatch
from ..ops.attention import key_bias_of
from .linear import calls_alone


def mixed_context(
    layers: Sequence[nn.Module],
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None],
    depthwise_weight: torch.Tensor,
    heads: int,
    dropout_p: float,
    x: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """`bertkernels.ops.mixed_context`, or None where it can't stand for the modules, which are then called one by one.

    Args:
        layers: whatever modules the weights come from.
        x: [B, T, C] or packed [total, C].
        attention_mask: bool or additive, broadcastable to [B, H, T, T].
        the others: as for the op.
    """
    if x.device.type != "cpu" or not dispatch.runs_on("mixed_context", "cpu"):
        return None
    if not all(map(calls_alone, layers)):
        return None
    key_bias = None
    if attention_mask is not None:
        if attention_mask.requires_grad or attention_mask.dim() != 4 or attention_mask.shape[1:3] != (1, 1):
            return None
        key_bias = key_bias_of(attention_mask, x)
    tensors = (depthwise_weight, list(weights), list(biases))
    return ops.mixed_context(x, *tensors, heads, key_bias=key_bias, dropout_p=dropout_p, cu_seqlens=cu_seqlens)
