"""Whole sub-layers as one op: on the CPU, where plain modules do just what the op does; `attention_block`,
`expression_block` and `mixed_block` for inference.

The functions here return None where they can't stand for the modules, which are then called one by one. Each takes the
module whose sub-layer it is, `owner`, for which calls are kept (see `bound_call`).
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from .. import ops
from ..ops import dispatch
from ..ops.attention import key_bias_of
from ..ops.attention_block import bind as bind_attention
from ..ops.dynamic_conv_block import bind as bind_dynamic_conv
from ..ops.expression_block import bind as bind_expression
from ..ops.feed_forward_block import bind as bind_feed_forward
from ..ops.mixed_block import bind as bind_mixed
from .bound_call import recall, remember
from .glorot import GlorotLinear
from .grouped_linear import GroupedLinear
from .linear import PLAIN, Weights, calls_alone, children, weight_and_bias

MixedParameters = tuple[torch.Tensor, Sequence[torch.Tensor | None], Sequence[torch.Tensor | None]]
LINEAR = (nn.Linear, GlorotLinear, GroupedLinear)


def feed_forward_block(
    owner: nn.Module,
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
    p = _dropout_p(dropout)
    if p is None:
        return None
    modules, options = [up, down, norm, dropout], (activation, _eps(norm))
    call = None if p or weights else recall(owner, modules, options, x)
    if call is not None:
        return call(x)
    if type(up) not in kinds or type(down) not in kinds:
        return None
    if not _takes("feed_forward_block", x, norm, dropout, up, down):
        return None
    of_up, of_down = weights or (weight_and_bias(up), weight_and_bias(down))
    if not _are_there(*of_up, *of_down):
        return None
    parameters = (*of_up, *of_down, *weight_and_bias(norm))
    if not p and not weights:
        remember(owner, modules, options, x, bind_feed_forward, *parameters, activation, norm.eps)
    return ops.feed_forward_block(x, *parameters, activation=activation, eps=norm.eps, dropout_p=p)


def expression_block(
    owner: nn.Module,
    frames: Sequence[tuple[nn.Module, nn.Module, nn.Module]],
    weights: Sequence[tuple[Weights, Weights] | None],
    programs: tuple[str, str, str],
    widths: str,
    x: torch.Tensor,
) -> torch.Tensor | None:
    """x ← norm(x + after(down(between(up(before(x)))))), frame by frame; x […, C].

    Args:
        frames: function, norm and dropout of each; the function has the layers `up` and `down`.
        weights: those of `up` and `down` of each to use in place of their own, if any.
        programs: before, between and after, as `bertkernels.ops.expression_block` has them. widths: likewise.
    """
    modules, eps = [], _eps(frames[0][1])
    for function, norm, dropout in frames:
        if _drops(dropout) or _eps(norm) != eps:
            return None
        modules += (norm, dropout, *children(function, "up", "down"))
        if function is not owner:
            modules.append(function)
    options, own = (*programs, widths, eps), not any(weights)
    call = recall(owner, modules, options, x) if own else None
    if call is not None:
        return call(x)
    used, norms = [], []
    for (function, norm, dropout), given in zip(frames, weights, strict=True):
        layers = children(function, "up", "down")
        if not all(type(layer) in PLAIN for layer in layers) or not calls_alone(function):
            return None
        if not _infers("expression_block", x, norm, dropout, *layers):
            return None
        used += given or map(weight_and_bias, layers)
        norms += weight_and_bias(norm)
    matrices, biases = zip(*used, strict=True)
    if not _are_there(*matrices, *biases):
        return None
    tensors = (matrices, biases, norms)
    if own:
        remember(owner, modules, options, x, bind_expression, *tensors, *options)
    before, between, after = programs
    return ops.expression_block(x, *tensors, before=before, between=between, after=after, widths=widths, eps=eps)


def dynamic_conv_block(
    owner: nn.Module,
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
    p = _dropout_p(dropout)
    modules, options = [*layers, depthwise, norm, dropout], (heads, _eps(norm))
    call = None if p or p is None else recall(owner, modules, options, x)
    if call is not None:
        return call(x, cu_seqlens)
    if p is None or not all(type(layer) in PLAIN for layer in layers):
        return None
    if not _takes("dynamic_conv_block", x, norm, dropout, depthwise, *layers):
        return None
    weights, biases = zip(*map(weight_and_bias, layers), strict=True)
    if not _are_there(*weights, *biases):
        return None
    tensors = (depthwise.weight, list(weights), list(biases), *weight_and_bias(norm))
    if not p:
        remember(owner, modules, options, x, bind_dynamic_conv, *tensors, heads, norm.eps)
    return ops.dynamic_conv_block(x, *tensors, heads, cu_seqlens=cu_seqlens, eps=norm.eps, dropout_p=p)


def attention_block(
    owner: nn.Module,
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
    if not _is_by_key(attention_mask, x) or _drops(dropout):
        return None
    modules, options = [*layers, norm, dropout], (heads, _eps(norm))
    call = recall(owner, modules, options, x)
    if call is not None:
        return call(x, key_bias_of(attention_mask, x), cu_seqlens)
    if not all(type(layer) in PLAIN for layer in layers):
        return None
    if not _infers("attention_block", x, norm, dropout, *layers):
        return None
    weights, biases = zip(*map(weight_and_bias, layers), strict=True)
    if not _are_there(*weights, *biases):
        return None
    tensors = (list(weights), list(biases), *weight_and_bias(norm))
    remember(owner, modules, options, x, bind_attention, *tensors, heads, norm.eps)
    key_bias = key_bias_of(attention_mask, x)
    return ops.attention_block(x, *tensors, heads, key_bias=key_bias, cu_seqlens=cu_seqlens, eps=norm.eps)


def mixed_block(
    owner: nn.Module,
    layers: Sequence[nn.Module],
    parameters: Callable[[], MixedParameters],
    heads: int,
    norm: nn.Module,
    dropout: nn.Module,
    x: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """norm(x + dropout(mixed attention of x)), x [B, T, C] or packed [total, C].

    Args:
        layers: whatever modules the parameters come from.
        parameters: gives depthwise_weight, weights and biases as `bertkernels.ops.mixed_block` has them, None where a
            layer has none. heads, cu_seqlens: likewise.
        attention_mask: bool or additive, broadcastable to [B, H, T, T].
    """
    if not _is_by_key(attention_mask, x) or _drops(dropout):
        return None
    modules, options = [*layers, norm, dropout], (heads, _eps(norm))
    call = recall(owner, modules, options, x)
    if call is not None:
        return call(x, key_bias_of(attention_mask, x), cu_seqlens)
    if not _infers("mixed_block", x, norm, dropout, *layers):
        return None
    depthwise_weight, weights, biases = parameters()
    if not _are_there(*weights, *biases):
        return None
    tensors = (depthwise_weight, list(weights), list(biases), *weight_and_bias(norm))
    remember(owner, modules, options, x, bind_mixed, *tensors, heads, norm.eps)
    key_bias = key_bias_of(attention_mask, x)
    return ops.mixed_block(x, *tensors, heads, key_bias=key_bias, cu_seqlens=cu_seqlens, eps=norm.eps)


def _is_by_key(mask: torch.Tensor | None, x: torch.Tensor) -> bool:
    """Whether there is no mask, or one number for each key."""
    return mask is None or (mask.dim() == 4 and mask.shape[1:] == (1, 1, x.shape[1]))


def _infers(op: str, x: torch.Tensor, norm: nn.Module, dropout: nn.Module, *layers: nn.Module) -> bool:
    return not torch.is_grad_enabled() and not _drops(dropout) and _takes(op, x, norm, dropout, *layers)


def _drops(dropout: nn.Module) -> bool:
    """Whether the module does anything, as far as that is known."""
    return _dropout_p(dropout) != 0


def _eps(norm: nn.Module) -> float | None:
    return getattr(norm, "eps", None)


def _dropout_p(dropout: nn.Module) -> float | None:
    """With what probability the module drops elements; None where it does something else."""
    if type(dropout) is nn.Identity:
        return 0.0
    if type(dropout) is not nn.Dropout:
        return None
    p = dropout.p if dropout.training else 0.0
    return p if p < 1 else None


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
