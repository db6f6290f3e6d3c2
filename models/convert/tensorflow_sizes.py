"""Joins what a checkpoint's shapes say with what a configuration or a flag says into the configuration of ours."""

from collections.abc import Mapping

from bertkernels.errors import InputError

from ..configuration import EncoderConfig
from ..plan import BlockSpec, Plan, SublayerSpec
from .tensorflow_architecture import Architecture
from .tensorflow_config import Known

_BY_SHAPE = ("vocab_size", "embedding_size", "max_position_embeddings", "type_vocab_size", "hidden_size")
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
    effective = [layer.heads or _whole_heads(layer.width, head_size, known, role) for layer in architecture.layers]
    ratio = known["head_ratio"].value if "head_ratio" in known else _ratio(architecture, heads, effective)
    _check(architecture, known, role, heads, effective)
    taps = next((layer.taps for layer in architecture.layers if layer.taps), None)
    width = architecture.layers[0].intermediate_size
    blocks = []
    for layer, count in zip(architecture.layers, effective, strict=True):
        if layer.taps:
            options = {"kernel": layer.taps} if layer.taps != taps else {}
            first = SublayerSpec("mixed", options if _reduced(heads, ratio) == count else options | {"heads": count})
        else:
            first = SublayerSpec("attention", {} if count == heads else {"heads": count})
        options = {"groups": layer.groups} if layer.groups > 1 else {}
        options |= {"width": layer.intermediate_size} if layer.intermediate_size != width else {}
        blocks.append(BlockSpec((first, SublayerSpec("ffn", options))))
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
        plan=str(Plan(tuple(blocks))),
        **fields,
    )


def _configured_heads(architecture: Architecture, known: Mapping[str, Known], role: str, heads_flag: str) -> int:
    """Heads before head_ratio: hidden_size over the head size, which convolutions tell."""
    hidden = architecture.hidden_size
    head_sizes = {layer.width // layer.heads for layer in architecture.layers if layer.heads}
    if len(head_sizes) > 1:
        raise InputError(f"the {role}'s layers have heads of different widths: {sorted(head_sizes)}")
    for head_size in head_sizes:
        if hidden % head_size:
            raise InputError(f"the {role}'s heads are {head_size} wide, which does not divide its width {hidden}")
        return hidden // head_size
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


def _ratio(architecture: Architecture, heads: int, effective: list[int]) -> float:
    """The ratio that gives a mixed layer its heads; all ratios that do are the same model."""
    for layer, count in zip(architecture.layers, effective, strict=True):
        if layer.taps:
            ratio = heads / count
            return int(ratio) if ratio == int(ratio) else ratio
    return EncoderConfig.head_ratio


def _reduced(heads: int, ratio: float) -> int:
    return max(1, int(heads / ratio))


def _check(architecture: Architecture, known: Mapping[str, Known], role: str, heads: int, effective: list[int]) -> None:
    """Raises InputError that lists every contradiction between `known` and the shapes."""
    layers = architecture.layers
    told = {name: {getattr(architecture, name)} for name in _BY_SHAPE}
    told["num_hidden_layers"] = {len(layers)}
    told["num_attention_heads"] = {heads}
    told["intermediate_size"] = {layer.intermediate_size for layer in layers}
    told["groups"] = {layer.groups for layer in layers}
    told["conv_type"] = {"sdconv" if layer.taps else "noconv" for layer in layers}
    if all(layer.taps for layer in layers):
        told["conv_kernel_size"] = {layer.taps for layer in layers}
    contradictions = [
        f"{name} is {known[name].value} in {known[name].origin} but {' and '.join(map(str, sorted(values)))} here"
        for name, values in told.items()
        if name in known and values != {known[name].value}
    ]
    ratio = known.get("head_ratio")
    if ratio is not None:
        if isinstance(ratio.value, bool) or not isinstance(ratio.value, (int, float)) or ratio.value <= 0:
            raise InputError(f"head_ratio ({ratio.origin}) must be a number above 0, got {ratio.value!r}")
        if set(effective) != {_reduced(heads, ratio.value)}:
            contradictions.append(
                f"head_ratio {ratio.value} in {ratio.origin} leaves {_reduced(heads, ratio.value)} of {heads} heads, "
                f"but the layers have {' and '.join(map(str, sorted(set(effective))))}"
            )
    if contradictions:
        raise InputError(f"the {role}'s variables contradict what is said of it: {'; '.join(contradictions)}")
