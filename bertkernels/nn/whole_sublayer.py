"""Whole sub-layers as one op: on the CPU, where plain modules do just what the op does; `attention_block`,
`expression_block` and `mixed_block` for inference.

The functions here return None where they can't stand for the modules, which are then called one by one.
"""

from collections.abc import Sequence

import torch
from torch import nn

from .. import ops
from ..ops import dispatch
from ..ops.attention import key_bias_of
from .glorot import GlorotLinear
from .grouped_linear import GroupedLinear
from .linear import PLAIN, Weights, calls_alone, children, weight_and_bias

LINEAR = (nn.Linear, GlorotLinear, GroupedLinear)


def feed_forward_block(
    up: nn.Module,
    down: nn.Module,
    activation: str | None,
    norm: nn.Module,
    dropout: nn.Module,
    x: torch.Tensor,
    kinds: tuple[type, ...] = LINEAR,
    weights: tuple[Weights, Weights] | None = None,
) -> torch.Tensor | None:
    """norm(x + dropout(down(activation(up(x))))), x […, C].

    Args:
        activation: as `bertkernels.ops.bias_activation` names it.
        kinds: classes of linear layers of which only weight and bias matter.
        weights: those of `up` and `down` to use in place of their own.
    """
    if type(up) not in kinds or type(down) not in kinds:
        return None
    if not _takes("feed_forward_block", x, norm, dropout, up, down):
        return None
    p = _dropout_p(dropout)
    if p is None:
        return None
    of_up, of_down = weights or (weight_and_bias(up), weight_and_bias(down))
    if not _are_there(*of_up, *of_down):
        return None
    return ops.feed_forward_block(
        x, *of_up, *of_down, *weight_and_bias(norm), activation=activation, eps=norm.eps, dropout_p=p
    )


def expression_block(
    frames: Sequence[tuple[nn.Module, nn.Module, nn.Module]],
    weights: Sequence[tuple[Weights, Weights]],
    programs: tuple[str, str, str],
    widths: str,
    x: torch.Tensor,
) -> torch.Tensor | None:
    """x ← norm(x + after(down(between(up(before(x)))))), frame by frame; x […, C].

    Args:
        frames: function, norm and dropout of each; the function has the layers `up` and `down`.
        weights: those of `up` and `down` of each, perhaps slices of the layers' own.
        programs: before, between and after, as `bertkernels.ops.expression_block` has them. widths: likewise.
    """
    norms, eps = [], set()
    for function, norm, dropout in frames:
        up, down = children(function, "up", "down")
        if type(up) not in PLAIN or type(down) not in PLAIN or not calls_alone(function):
            return None
        if not _infers("expression_block", x, norm, dropout, up, down):
            return None
        norms += weight_and_bias(norm)
        eps.add(norm.eps)
    matrices, biases = zip(*(layer for pair in weights for layer in pair), strict=True)
    if len(eps) > 1 or not _are_there(*matrices, *biases):
        return None
    options = {**dict(zip(("before", "between", "after"), programs, strict=True)), "widths": widths, "eps": eps.pop()}
    return ops.expression_block(x, matrices, biases, norms, **options)


def dynamic_conv_block(
    layers: Sequence[nn.Module],
    depthwise: nn.Module,
    heads: int,
    norm: nn.Module,
    dropout: nn.Module,
    x: torch.Tensor,
    cu_seqlens: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """norm(x + dropout(dynamic convolution of x)), x [B, T, C] or packed [total, C].

    Args:
        layers: the linear ones, as `bertkernels.ops.dynamic_conv_block` has them. heads, cu_seqlens: likewise.
        depthwise: a module of whose weight alone the op has need.
    """
    if not all(type(layer) in PLAIN for layer in layers):
        return None
    if not _takes("dynamic_conv_block", x, norm, dropout, depthwise, *layers):
        return None
    p = _dropout_p(dropout)
    weights, biases = zip(*map(weight_and_bias, layers), strict=True)
    if p is None or not _are_there(*weights, *biases):
        return None
    tensors = (depthwise.weight, list(weights), list(biases), *weight_and_bias(norm))
    return ops.dynamic_conv_block(x, *tensors, heads, cu_seqlens=cu_seqlens, eps=norm.eps, dropout_p=p)


def attention_block(
    layers: Sequence[nn.Module],
    heads: int,
    norm: nn.Module,
    dropout: nn.Module,
    x: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """norm(x + dropout(self-attention of x)), x [B, T, C] or packed [total, C].

    Args:
        layers: as `bertkernels.ops.attention_block` has them. heads, cu_seqlens: likewise.
        attention_mask: bool or additive, broadcastable to [B, H, T, T].
    """
    if not all(type(layer) in PLAIN for layer in layers) or not _is_by_key(attention_mask, x):
        return None
    if not _infers("attention_block", x, norm, dropout, *layers):
        return None
    weights, biases = zip(*map(weight_and_bias, layers), strict=True)
    if not _are_there(*weights, *biases):
        return None
    tensors = (list(weights), list(biases), *weight_and_bias(norm))
    key_bias = key_bias_of(attention_mask, x)
    return ops.attention_block(x, *tensors, heads, key_bias=key_bias, cu_seqlens=cu_seqlens, eps=norm.eps)


def mixed_block(
    layers: Sequence[nn.Module],
    weights: Sequence[torch.Tensor | None],
    biases: Sequence[torch.Tensor | None],
    depthwise_weight: torch.Tensor,
    heads: int,
    norm: nn.Module,
    dropout: nn.Module,
    x: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """norm(x + dropout(mixed attention of x)), x [B, T, C] or packed [total, C].

    Args:
        layers: whatever modules the weights come from.
        weights, biases, depthwise_weight, heads, cu_seqlens: as for `bertkernels.ops.mixed_block`; None where a layer
            has none.
        attention_mask: bool or additive, broadcastable to [B, H, T, T].
    """
    if not _infers("mixed_block", x, norm, dropout, *layers):
        return None
    if not _are_there(*weights, *biases) or not _is_by_key(attention_mask, x):
        return None
    tensors = (depthwise_weight, list(weights), list(biases), *weight_and_bias(norm))
    key_bias = key_bias_of(attention_mask, x)
    return ops.mixed_block(x, *tensors, heads, key_bias=key_bias, cu_seqlens=cu_seqlens, eps=norm.eps)


def _is_by_key(mask: torch.Tensor | None, x: torch.Tensor) -> bool:
    """Whether there is no mask, or one number for each key."""
    return mask is None or (mask.dim() == 4 and mask.shape[1:] == (1, 1, x.shape[1]))


def _infers(op: str, x: torch.Tensor, norm: nn.Module, dropout: nn.Module, *layers: nn.Module) -> bool:
    return (
        not torch.is_grad_enabled() and not (dropout.training and dropout.p) and _takes(op, x, norm, dropout, *layers)
    )


def _dropout_p(dropout: nn.Module) -> float | None:
    """With what probability the module drops elements; None where it does something else."""
    p = dropout.p if dropout.training else 0.0
    return p if not p or (type(dropout) is nn.Dropout and p < 1) else None


def _takes(op: str, x: torch.Tensor, norm: nn.Module, dropout: nn.Module, *layers: nn.Module) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and dispatch.runs_on(op, "cpu")
        and is_plain_norm(norm)
        and calls_alone(dropout, *layers)
    )


def is_plain_norm(norm: nn.Module) -> bool:
    """Whether it is a LayerNorm over the last dimension, with weight and bias, that nobody has hooked into."""
    return (
        type(norm) is nn.LayerNorm
        and _are_there(*weight_and_bias(norm))
        and len(norm.normalized_shape) == 1
        and calls_alone(norm)
    )


def _are_there(*parameters: torch.Tensor | None) -> bool:
    for parameter in parameters:  # `None in` would compare their elements
        if parameter is None:
            return False
    return True
