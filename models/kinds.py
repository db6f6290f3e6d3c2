"""The sub-layers that a plan can name: one table, and a new kind is one more entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any

from torch import nn

from bertkernels.errors import InputError
from bertkernels.nn import (
    ACTIVATIONS,
    Attention,
    DynamicConv,
    ExpressionFeedForward,
    FeedForward,
    LinearAttention,
    MixedAttention,
)
from bertkernels.nn.expressions import parse_expression

from .expression_options import Value, expression_ffn, expression_ffn_operations
from .frame_options import FRAME_OPTIONS, INNER
from .operations import Operations, linear

if TYPE_CHECKING:
    from .configuration import EncoderConfig


LARGEST = 999_999_999  # value of an option
OptionType = type | tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of sub-layer.

    Attributes:
        module: what stands in the encoder; called with (x, layout).
        options: what may stand in brackets in a plan beside `FRAME_OPTIONS`, with its type: int (from 1), float (above
            0, also whole), str (an expression), or the names to choose from. `stack`, where a kind has it, is how many
            stand in a row, each in a frame of its own.
        arguments: (config, **options) → a module's arguments. Raises InputError where they do not fit together.
        operations: (tokens, **arguments) → what the module does to one of so many tokens of a sequence.
    """

    module: type[nn.Module]
    options: Mapping[str, OptionType]
    arguments: Callable[..., dict[str, Any]]
    operations: Callable[..., Operations]

    def build(self, config: EncoderConfig, options: Mapping[str, Value]) -> nn.Module:
        return self.module(**self.arguments(config, **options))


def _attention(config: EncoderConfig, heads: int | None = None) -> dict[str, Any]:
    return {
        "hidden_size": config.hidden_size,
        "heads": heads or config.num_attention_heads,
        "head_size": config.head_size,
        "dropout": config.attention_probs_dropout_prob,
    }


def _attention_operations(tokens: int, hidden_size: int, heads: int, head_size: int, **_) -> Operations:
    width = heads * head_size
    return linear(hidden_size, width) * 3 + _attended(tokens, heads, head_size) + linear(width, hidden_size)


def _linear_attention_operations(tokens: int, hidden_size: int, heads: int, head_size: int, **_) -> Operations:
    """Without dropout on its weights, which would make it take all pairs of tokens."""
    width = heads * head_size
    summed = Operations(products=2 * width * head_size, elements=width)  # keys with values, queries with that; scaling
    return linear(hidden_size, width) * 3 + summed + linear(width, hidden_size)


def _attended(tokens: int, heads: int, head_size: int) -> Operations:
    """Scores, their scaling, softmax and dropout, and the weighted values."""
    pairs = heads * tokens
    return Operations(products=2 * pairs * head_size, elements=pairs, softmaxes=pairs, dropouts=pairs)


def _convolved(heads: int, head_size: int, kernel_size: int) -> Operations:
    """Softmax over taps, and the weighted values."""
    return Operations(products=heads * head_size * kernel_size, softmaxes=heads * kernel_size)


def _mixed(
    config: EncoderConfig, head_ratio: float | None = None, kernel: int | None = None, heads: int | None = None
) -> dict[str, Any]:
    if head_ratio is not None and heads is not None:
        raise InputError("mixed takes head_ratio or heads, not both")
    # the released code keeps one head where the ratio would leave none, as in ConvBERT-small's generator
    by_ratio = max(1, int(config.num_attention_heads / (head_ratio or config.head_ratio)))
    return {
        "hidden_size": config.hidden_size,
        "heads": heads or by_ratio,
        "head_size": config.head_size,
        "kernel_size": kernel or config.conv_kernel_size,
        "dropout": config.attention_probs_dropout_prob,
    }


def _mixed_operations(tokens: int, hidden_size: int, heads: int, head_size: int, kernel_size: int, **_) -> Operations:
    width = heads * head_size
    return (
        linear(hidden_size, width)
        * 5  # query, key, value, values of the convolution, and the pointwise one of the span
        + Operations(products=hidden_size * kernel_size, elements=width)  # the depthwise one, and times the query
        + linear(width, heads * kernel_size)
        + _convolved(heads, head_size, kernel_size)
        + _attended(tokens, heads, head_size)
        + linear(2 * width, hidden_size)
    )


def _dynamic_conv(config: EncoderConfig, kernel: int | None = None, heads: int | None = None) -> dict[str, Any]:
    return {
        "hidden_size": config.hidden_size,
        "heads": heads or config.num_attention_heads,
        "head_size": config.head_size,
        "kernel_size": kernel or config.conv_kernel_size,
    }


def _dynamic_conv_operations(tokens: int, hidden_size: int, heads: int, head_size: int, kernel_size: int) -> Operations:
    width = heads * head_size
    return (
        linear(hidden_size, width) * 2
        + Operations(elements=5 * width)  # the gate: a sigmoid is four operations
        + Operations(products=width * kernel_size)  # depthwise
        + linear(width, width)
        + linear(width, heads * kernel_size)
        + _convolved(heads, head_size, kernel_size)
        + linear(width, hidden_size)
    )


def _ffn(
    config: EncoderConfig,
    groups: int = 1,
    width: int | None = None,
    activation: str | None = None,
    norm: str | None = None,
) -> dict[str, Any]:
    width = width or config.intermediate_size
    for name, channels in (("hidden_size", config.hidden_size), ("the ffn's width", width)):
        if channels % groups:
            raise InputError(f"ffn[groups={groups}] must divide {name}, {channels}")
    return {
        "hidden_size": config.hidden_size,
        "intermediate_size": width,
        "groups": groups,
        "activation": activation or config.hidden_act,
        "norm_eps": config.layer_norm_eps if norm == INNER else None,
    }


def _ffn_operations(
    tokens: int, hidden_size: int, intermediate_size: int, groups: int, norm_eps: float | None, **_
) -> Operations:
    up, down = linear(hidden_size, intermediate_size, groups), linear(intermediate_size, hidden_size, groups)
    normed = 0 if norm_eps is None else intermediate_size
    return up + Operations(activations=intermediate_size, norms=normed) + down


KINDS: dict[str, Kind] = {
    "attention": Kind(Attention, {"heads": int}, _attention, _attention_operations),
    "dynamic_conv": Kind(DynamicConv, {"kernel": int, "heads": int}, _dynamic_conv, _dynamic_conv_operations),
    "expression_ffn": Kind(
        ExpressionFeedForward,
        {"expression": str, "ratio": int, "stack": int},
        expression_ffn,
        expression_ffn_operations,
    ),
    "ffn": Kind(
        FeedForward,
        {
            "groups": int,
            "width": int,
            "activation": tuple(ACTIVATIONS),
            "norm": (*FRAME_OPTIONS["norm"], INNER),
        },
        _ffn,
        _ffn_operations,
    ),
    "linear_attention": Kind(LinearAttention, {"heads": int}, _attention, _linear_attention_operations),
    "mixed": Kind(MixedAttention, {"head_ratio": float, "kernel": int, "heads": int}, _mixed, _mixed_operations),
}


def find_kind(name: str) -> Kind:
    """The kind of this name; InputError, with a suggestion, where there is none."""
    if name not in KINDS:
        raise InputError(f"unknown sub-layer {name!r}{_hint(name, KINDS)}")
    return KINDS[name]


def option_type(kind: str, name: str) -> OptionType | None:
    """What an option of a kind takes, its own or its frame's; None where there is no such option."""
    return {**FRAME_OPTIONS, **find_kind(kind).options}.get(name)


def check_option(kind: str, name: str, value: object) -> Value:
    """The value of an option of a kind, in its normal form; InputError where there is no such option or value."""
    taken = option_type(kind, name)
    if taken is None:
        raise InputError(f"{kind} has no option {name!r}{_hint(name, {**FRAME_OPTIONS, **find_kind(kind).options})}")
    if taken is str:
        return str(parse_expression(value))
    if isinstance(taken, tuple):
        if value not in taken:
            raise InputError(f"{kind}[{name}] must be one of {', '.join(taken)}, got {value}")
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    whole = number and value == int(value)
    if taken is int and not (whole and value >= 1):
        raise InputError(f"{kind}[{name}] must be a whole number from 1, got {value}")
    if not number or value <= 0:
        raise InputError(f"{kind}[{name}] must be a number above 0, got {value}")
    if value > LARGEST:
        raise InputError(f"{kind}[{name}] must be at most {LARGEST:,}, got {value}")
    return int(value) if whole else value


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
