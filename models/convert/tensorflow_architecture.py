"""What the names and shapes of a checkpoint's variables say about its architecture."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bertkernels.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        heads: effective heads N, where a convolution tells them (its kernel layer is N·K wide), else None.
        width: channels a of query, key and value: N times the head size.
        taps: K of the convolution, None where there is none.
        intermediate_size, groups: of the feed-forward.
    """

    heads: int | None
    width: int
    taps: int | None
    intermediate_size: int
    groups: int


@dataclass(frozen=True)
class Architecture:
    """The sizes that variables tell: all but the number of heads where no convolution tells it."""

    vocab_size: int
    embedding_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_size: int
    layers: tuple[Layer, ...]


def count_layers(scope: str, names: Iterable[str]) -> int:
    """Layers of the encoder in `scope`: one more than the highest number in a name."""
    pattern = re.compile(rf"{re.escape(scope)}/encoder/layer_(\d+)/")
    return max((int(match[1]) + 1 for name in names if (match := pattern.match(name))), default=0)


def infer_architecture(shapes: Shapes, scope: str, embeddings: str) -> Architecture:
    """Reads the sizes of the encoder in `scope` with the tables in `embeddings`, whose variables are all there.

    Raises:
        InputError: shapes that make no encoder, with the variables.
    """
    vocab_size, embedding_size = shapes[f"{embeddings}/word_embeddings"]
    layers = tuple(_layer(shapes, f"{scope}/encoder/layer_{i}") for i in range(count_layers(scope, shapes)))
    return Architecture(
        vocab_size=vocab_size,
        embedding_size=embedding_size,
        max_position_embeddings=shapes[f"{embeddings}/position_embeddings"][0],
        type_vocab_size=shapes[f"{embeddings}/token_type_embeddings"][0],
        hidden_size=shapes[f"{scope}/encoder/layer_0/attention/output/dense/kernel"][1],
        layers=layers,
    )


def _layer(shapes: Shapes, layer: str) -> Layer:
    attention = f"{layer}/attention/self"
    width = shapes[f"{attention}/query/kernel"][1]
    heads = taps = None
    if f"{attention}/conv_attn_key/depthwise_kernel" in shapes:
        taps = shapes[f"{attention}/conv_attn_key/depthwise_kernel"][0]
        logits = shapes[f"{attention}/conv_attn_kernel/kernel"][1]
        if logits % taps or width % (logits // taps):
            raise InputError(
                f"{attention}: {taps} taps (conv_attn_key), {logits} kernel weights (conv_attn_kernel) and {width} "
                "channels (query) fit no whole number of heads"
            )
        heads = logits // taps
    if f"{layer}/intermediate/g_dense/kernel" in shapes:
        groups, _, group_width = shapes[f"{layer}/intermediate/g_dense/kernel"]
        return Layer(heads, width, taps, groups * group_width, groups)
    return Layer(heads, width, taps, shapes[f"{layer}/intermediate/dense/kernel"][1], 1)
