"""What the names and shapes of a checkpoint's variables say about its architecture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bertkernels.errors import InputError

from .tensorflow_layers import Place

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sublayer:
    """One sub-layer.

    Attributes:
        kind: as plans call it.
        width: channels a of query, key and value (or of what is convolved): heads times the head size; of ffn, between
            its two layers.
        heads: effective heads N, where a convolution tells them (its kernel layer is N·K wide), else None.
        taps: K of the convolution, None where there is none.
        groups: of the feed-forward.
    """

    kind: str
    width: int
    heads: int | None = None
    taps: int | None = None
    groups: int = 1


@dataclass(frozen=True)
class Architecture:
    """The sizes that variables tell: all but the number of heads where no convolution tells it."""

    vocab_size: int
    embedding_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_size: int
    layers: tuple[tuple[Sublayer, ...], ...]

    @property
    def sublayers(self) -> list[Sublayer]:
        return [sublayer for layer in self.layers for sublayer in layer]


def infer_architecture(shapes: Shapes, layers: Sequence[Sequence[Place]], embeddings: str) -> Architecture:
    """Reads the sizes of the encoder of these `layers` with the tables in `embeddings`, whose variables are all there.

    Raises:
        InputError: shapes that make no encoder, with the variables.
    """
    vocab_size, embedding_size = shapes[f"{embeddings}/word_embeddings"]
    return Architecture(
        vocab_size=vocab_size,
        embedding_size=embedding_size,
        max_position_embeddings=shapes[f"{embeddings}/position_embeddings"][0],
        type_vocab_size=shapes[f"{embeddings}/token_type_embeddings"][0],
        hidden_size=_hidden_size(shapes, layers[0][0]),
        layers=tuple(tuple(_SUBLAYERS[place.kind](shapes, place.scope) for place in layer) for layer in layers),
    )


def _hidden_size(shapes: Shapes, place: Place) -> int:
    part = {"ffn": "output", "dynamic_conv": "dynamic_convolution_layer/output"}.get(place.kind, "attention/output")
    return shapes[f"{place.scope}/{part}/LayerNorm/gamma"][0]


def _attention(shapes: Shapes, scope: str) -> Sublayer:
    return Sublayer("attention", shapes[f"{scope}/attention/self/query/kernel"][1])


def _mixed(shapes: Shapes, scope: str) -> Sublayer:
    return _convolution("mixed", shapes, f"{scope}/attention/self", "query")


def _dynamic_conv(shapes: Shapes, scope: str) -> Sublayer:
    return _convolution("dynamic_conv", shapes, f"{scope}/dynamic_convolution_layer/convolution", "glu_l")


def _convolution(kind: str, shapes: Shapes, scope: str, values: str) -> Sublayer:
    width = shapes[f"{scope}/{values}/kernel"][1]
    taps = shapes[f"{scope}/conv_attn_key/depthwise_kernel"][0]
    logits = shapes[f"{scope}/conv_attn_kernel/kernel"][1]
    if logits % taps or width % (logits // taps):
        raise InputError(
            f"{scope}: {taps} taps (conv_attn_key), {logits} kernel weights (conv_attn_kernel) and {width} channels "
            f"({values}) fit no whole number of heads"
        )
    return Sublayer(kind, width, heads=logits // taps, taps=taps)


def _ffn(shapes: Shapes, scope: str) -> Sublayer:
    if f"{scope}/intermediate/g_dense/kernel" in shapes:
        groups, _, group_width = shapes[f"{scope}/intermediate/g_dense/kernel"]
        return Sublayer("ffn", groups * group_width, groups=groups)
    return Sublayer("ffn", shapes[f"{scope}/intermediate/dense/kernel"][1])


_SUBLAYERS = {"attention": _attention, "mixed": _mixed, "dynamic_conv": _dynamic_conv, "ffn": _ffn}
