"""Joins what a checkpoint's shapes say with what a configuration or a flag says into the configuration of ours."""

from collections.abc import Mapping

from bertkernels.errors import InputError

from ..configuration import EncoderConfig
from ..plan import BlockSpec, Plan, SublayerSpec
from .tensorflow_architecture import Architecture, Sublayer
from .tensorflow_config import Known

_BY_SHAPE = ("vocab_size", "embedding_size", "max_position_embeddings", "type_vocab_size", "hidden_size")
_CONV_TYPES = {"mixed": "sdconv", "attention": "noconv"}  # as ConvBERT calls layers with and without a convolution
_NUMBERS = {"dynamic_conv": 0, "attention": 1, "ffn": 2}  # LV-BERT's
_TAKEN_OVER = (
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
    "initializer_range",
)


def encoder_config(
    architecture: Architecture, known: Mapping[str, Known], role: str, heads_flag: str, **fields
) -> EncoderConfig:
    """The configuration of an encoder.

    Args:
        architecture: what the shapes say.
        known: what somebody says, by the names of `tensorflow_config`. hidden_act, dropouts and the like are taken
            over; where nobody says them, the defaults of EncoderConfig hold, which are the released programs'.
        role: "encoder" or "generator", for errors.
        heads_flag: the option that would have told the number of heads.
        fields: further fields of the configuration.

    Raises:
        InputError: the number of heads is told by nobody, or two sources contradict each other.
    """
    heads = _configured_heads(architecture, known, role, heads_flag)
    head_size = architecture.hidden_size // heads
    effective = {
        sublayer: sublayer.heads or _whole_heads(sublayer.width, head_size, known, role)
        for sublayer in architecture.sublayers
        if sublayer.kind != "ffn"
    }
    ratio = known["head_ratio"].value if "head_ratio" in known else _ratio(heads, effective)
    _check(architecture, known, role, heads, effective)
    taps = next((sublayer.taps for sublayer in architecture.sublayers if sublayer.taps), None)
    widths = [sublayer.width for sublayer in architecture.sublayers if sublayer.kind == "ffn"]
    # where there is no feed-forward, it is only said
    width = widths[0] if widths else _said(known, "intermediate_size", 4 * architecture.hidden_size)
    usual = {"mixed": _reduced(heads, ratio), "attention": heads, "dynamic_conv": heads}

    def spec(sublayer: Sublayer) -> SublayerSpec:
        """With what is not the configuration's."""
        if sublayer.kind == "ffn":
            options = {"groups": sublayer.groups} if sublayer.groups > 1 else {}
            return SublayerSpec("ffn", options | ({"width": sublayer.width} if sublayer.width != width else {}))
        options = {"kernel": sublayer.taps} if sublayer.taps != taps and sublayer.taps else {}
        count = effective[sublayer]
        return SublayerSpec(sublayer.kind, options | ({"heads": count} if count != usual[sublayer.kind] else {}))

    plan = Plan(tuple(BlockSpec(tuple(map(spec, layer))) for layer in architecture.layers))
    shaped = {name: getattr(architecture, name) for name in _BY_SHAPE}
    taken = {name: known[name].value for name in _TAKEN_OVER if name in known}
    if taps:
        taken["conv_kernel_size"] = taps
    return EncoderConfig(
        **shaped,
        **taken,
        num_attention_heads=heads,
        head_ratio=ratio,
        intermediate_size=width,
        plan=str(plan),
        **fields,
    )


def _configured_heads(architecture: Architecture, known: Mapping[str, Known], role: str, heads_flag: str) -> int:
    """Heads before head_ratio: hidden_size over the head size, which convolutions tell."""
    hidden = architecture.hidden_size
    head_sizes = {sublayer.width // sublayer.heads for sublayer in architecture.sublayers if sublayer.heads}
    if len(head_sizes) > 1:
        raise InputError(f"the {role}'s layers have heads of different widths: {sorted(head_sizes)}")
    for head_size in head_sizes:
        if hidden % head_size:
            raise InputError(f"the {role}'s heads are {head_size} wide, which does not divide its width {hidden}")
        return hidden // head_size
    if all(sublayer.kind == "ffn" for sublayer in architecture.sublayers):
        return _said(known, "num_attention_heads", 1)  # there are none
    if "num_attention_heads" not in known:
        raise InputError(
            f"the shapes of the {role}'s variables do not tell num_attention_heads: give {heads_flag}, or --config "
            "with the file that describes the model"
        )
    heads = known["num_attention_heads"]
    if hidden % heads.value:
        raise InputError(
            f"num_attention_heads {heads.value} ({heads.origin}) does not divide the {role}'s width {hidden}"
        )
    return heads.value


def _whole_heads(width: int, head_size: int, known: Mapping[str, Known], role: str) -> int:
    if width % head_size:
        heads = known["num_attention_heads"]
        raise InputError(
            f"num_attention_heads {heads.value} ({heads.origin}) makes heads of {head_size} channels, but the {role}'s "
            f"queries have {width}"
        )
    return width // head_size


def _ratio(heads: int, effective: Mapping[Sublayer, int]) -> float:
    """The ratio that gives a mixed layer its heads; all ratios that do are the same model."""
    for sublayer, count in effective.items():
        if sublayer.kind == "mixed":
            ratio = heads / count
            return int(ratio) if ratio == int(ratio) else ratio
    return EncoderConfig.head_ratio


def _said(known: Mapping[str, Known], name: str, otherwise: int) -> int:
    return known[name].value if name in known else otherwise


def _reduced(heads: int, ratio: float) -> int:
    return max(1, int(heads / ratio))


def _check(
    architecture: Architecture, known: Mapping[str, Known], role: str, heads: int, effective: Mapping[Sublayer, int]
) -> None:
    """Raises InputError that lists every contradiction between `known` and the shapes."""
    sublayers = architecture.sublayers
    feed_forward = [sublayer for sublayer in sublayers if sublayer.kind == "ffn"]
    told = {name: {getattr(architecture, name)} for name in _BY_SHAPE}
    told["num_hidden_layers"] = {len(architecture.layers)}
    told["num_attention_heads"] = {heads}
    told["intermediate_size"] = {sublayer.width for sublayer in feed_forward}
    told["groups"] = {sublayer.groups for sublayer in feed_forward}
    told["conv_type"] = {_CONV_TYPES[sublayer.kind] for sublayer in sublayers if sublayer.kind in _CONV_TYPES}
    if all(sublayer.taps for sublayer in sublayers if sublayer.kind != "ffn"):
        told["conv_kernel_size"] = {sublayer.taps for sublayer in sublayers if sublayer.taps}
    if all(sublayer.kind in _NUMBERS for sublayer in sublayers):
        told["custom_layer_list"] = {tuple(_NUMBERS[sublayer.kind] for sublayer in sublayers)}
    contradictions = [
        f"{name} is {_shown(known[name].value)} in {known[name].origin} but "
        f"{' and '.join(map(_shown, sorted(values)))} here"
        for name, values in told.items()
        if name in known and values and values != {known[name].value}
    ]
    ratio = known.get("head_ratio")
    if ratio is not None:
        if isinstance(ratio.value, bool) or not isinstance(ratio.value, (int, float)) or ratio.value <= 0:
            raise InputError(f"head_ratio ({ratio.origin}) must be a number above 0, got {ratio.value!r}")
        found = {count for sublayer, count in effective.items() if sublayer.kind in _CONV_TYPES}
        if found - {_reduced(heads, ratio.value)}:
            contradictions.append(
                f"head_ratio {ratio.value} in {ratio.origin} leaves {_reduced(heads, ratio.value)} of {heads} heads, "
                f"but the layers have {' and '.join(map(str, sorted(found)))}"
            )
    if contradictions:
        raise InputError(f"the {role}'s variables contradict what is said of it: {'; '.join(contradictions)}")


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
