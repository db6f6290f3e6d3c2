"""The sub-layers of our encoders, for `adapt`."""

from torch import nn

from bertkernels.errors import InputError
from bertkernels.models.encoder import Block
from bertkernels.models.slot import Slot, slot_key
from bertkernels.nn import (
    Attention,
    DynamicConv,
    ExpressionFeedForward,
    FeedForward,
    GroupedLinear,
    LinearAttention,
    MixedAttention,
    PostNorm,
    PostNormStack,
    VariedFrame,
)

from .sublayers import ATTENTION, FFN, Heads, Sublayer
from .taps import INPUT, OUTPUT, Tap


def frames_of(sublayer: nn.Module) -> list[PostNorm]:
    """The frames that run in a place of a plan: several in a stack, those of the chosen kind in a supernet."""
    if isinstance(sublayer, Slot):
        sublayer = sublayer[slot_key(sublayer.chosen)]
    if isinstance(sublayer, PostNormStack):
        return list(sublayer)[: sublayer.running]
    return [sublayer]


def runs_as_one(block: Block) -> bool:
    """Whether it is one sub-layer, or one that mixes tokens and feed-forward ones after it, as in a transformer."""
    parts = [_describe(frame).part for sublayer in block.sublayers for frame in frames_of(sublayer)]
    return len(block.sublayers) == 1 or (parts[0] == ATTENTION and ATTENTION not in parts[1:])


def our_sublayers(module: nn.Module) -> list[Sublayer]:
    """Those of a block, or of one place of a plan."""
    places = module.sublayers if isinstance(module, Block) else [module]
    return [_describe(frame) for place in places for frame in frames_of(place)]


def _describe(frame: nn.Module) -> Sublayer:
    if type(frame) not in (PostNorm, VariedFrame):
        raise InputError(f"a sub-layer is a {type(frame).__name__}; known: those in a PostNorm or VariedFrame")
    function = frame.function
    describe = next((of_kind for kind, of_kind in _KINDS.items() if type(function) is kind), None)
    if describe is None:
        known = ", ".join(kind.__name__ for kind in _KINDS)
        raise InputError(f"a sub-layer is a {type(function).__name__}; known: {known}")
    described = describe(function)
    channels = described.pop("channels")
    described |= {"result": Tap(function, OUTPUT, channels)} | (
        _varied(frame, channels) if type(frame) is VariedFrame else {}
    )
    return Sublayer(
        start=Tap(frame, INPUT, channels),
        end=Tap(frame, OUTPUT, channels),
        entry=Tap(function, INPUT, channels),
        dropout=frame.dropout,
        norm=frame.norm,
        **described,
    )


def _varied(frame: VariedFrame, channels: int) -> dict:
    described = {"norm_on_sum": frame.norm_at == "sum", "residual": frame.residual}
    # the activation of the output belongs to f; a norm of the output does not
    if frame.activation is not None and frame.norm_at != "output":
        described["result"] = Tap(frame.dropout, INPUT, channels)
    return described


def _attention(function: Attention) -> dict:
    projections = (function.query, function.key, function.value)
    return _with_heads("attention", function, function.heads, 0, projections, (), projections)


def _mixed(function: MixedAttention) -> dict:
    projections = (function.query, function.key, function.value)
    alone = (function.conv_value, function.depthwise, function.pointwise, function.conv_kernel)
    return _with_heads("mixed", function, function.heads, function.heads, projections, alone, (*projections, *alone))


def _dynamic_conv(function: DynamicConv) -> dict:
    inner = (function.value, function.gate, function.depthwise, function.pointwise, function.conv_kernel)
    return _with_heads("dynamic_conv", function, 0, function.heads, (), inner, inner)


def _with_heads(kind, function, attention, convolution, of_attention, of_convolution, inner) -> dict:
    width = function.head_size
    context = Tap(function.output, INPUT, (attention + convolution) * width)
    heads = Heads(context, attention, convolution, width, of_attention, of_convolution, function.output)
    return {
        "part": ATTENTION,
        "kind": kind,
        "channels": function.output.out_features,
        "middle": context,
        "inner": inner,
        "last": (function.output,),
        "heads": heads,
    }


def _ffn(function: FeedForward) -> dict:
    up, down = function.up, function.down
    grouped = isinstance(down, GroupedLinear)
    width = down.weight.shape[0] * down.weight.shape[1] if grouped else down.in_features
    inner = (up,) if function.norm is None else (up, function.norm)
    return {
        "part": FFN,
        "kind": "ffn",
        "channels": down.weight.shape[0] * down.weight.shape[2] if grouped else down.out_features,
        "middle": Tap(down, INPUT, width),
        "inner": inner,
        "last": (down,),
        "before_activation": Tap(inner[-1], OUTPUT, width),
        # of grouped layers the first one applies it
        "linear": ((function, "activation", "linear"), *([(up, "activation", "linear")] if grouped else ())),
    }


def _expression_ffn(function: ExpressionFeedForward) -> dict:
    return {
        "part": FFN,
        "kind": "expression_ffn",
        "channels": function.up.in_features,
        "middle": None,
        "inner": (function.up, function.down),
        "last": (),
    }


_KINDS = {
    Attention: _attention,
    DynamicConv: _dynamic_conv,
    ExpressionFeedForward: _expression_ffn,
    FeedForward: _ffn,
    LinearAttention: _attention,
    MixedAttention: _mixed,
}
