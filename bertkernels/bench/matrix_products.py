"""Matrix products and nothing else: what no implementation of an op or of an encoder can leave out."""

from collections.abc import Iterable, Iterator, Sequence
from math import prod

import torch
from torch import nn

from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import (
    Attention,
    DynamicConv,
    FeedForward,
    GroupedLinear,
    LinearAttention,
    MixedAttention,
    PostNormStack,
)

from .case import BACKWARD, BOTH, Case, Peer

PRODUCTS = "its own matrix products"
# parts of an encoder
EMBEDDINGS, MIXED, FEED_FORWARD = "embeddings", "mixed sub-layers", "feed-forward sub-layers"
ATTENTION, DYNAMIC_CONV = "attention sub-layers", "dynamic-convolution sub-layers"

Operands = tuple[torch.Tensor, torch.Tensor]  # [M, I] and [I, O], or batches of them
_TIMES_FORWARD = {BACKWARD: 2, BOTH: 3}  # a product has two gradients, each a product of as many operations


def products(operands: Iterable[Operands], both: bool) -> Peer:
    """A floor: all these products, and with `both` those of both gradients of each. Products of one shape share what
    stands for the gradient of their result."""
    operands = list(operands)

    def forward() -> None:
        for left, right in operands:
            left @ right

    if not both:
        return Peer(forward, floor=True)
    results = [(*left.shape[:-1], right.shape[-1]) for left, right in operands]
    made = {shape: operands[0][0].new_empty(shape).normal_() for shape in set(results)}
    steps = [(left, right, made[shape]) for (left, right), shape in zip(operands, results, strict=True)]

    def backward(_: object) -> None:
        for left, right, grad in reversed(steps):
            grad @ right.mT
            # as autograd does it for weights [out, in]: the gradient comes out the way the weight lies
            (grad.mT @ left) if right.mT.is_contiguous() else (left.mT @ grad)

    return Peer(forward, backward, floor=True)


def operations(operands: Iterable[Operands], mode: str) -> int:
    """How many these products take, a multiplication with its addition counted as two."""
    return _TIMES_FORWARD.get(mode, 1) * sum(2 * prod(left.shape) * right.shape[-1] for left, right in operands)


def encoder_operands(
    model: EncoderModel, case: Case, lengths: Sequence[int] | None = None, device: str | None = None
) -> Iterator[Operands]:
    """All matrix products of this model; see `operands_by_part`."""
    return (operands for _, operands in operands_by_part(model, case, lengths, device))


def operands_by_part(
    model: EncoderModel, case: Case, lengths: Sequence[int] | None = None, device: str | None = None
) -> Iterator[tuple[str, Operands]]:
    """All matrix products of this model at this shape, with the model's own weights, and what part of it each is of.

    Every linear layer (the pointwise half of the span's convolution, the kernels' and the embeddings' projection among
    them, also where two in a row could be one; without biases) and both products of the attention heads. Weights and
    activations lie in memory as in the model, heads as its attention would have them at best, one after the other.
    Activations of one shape are one tensor in all layers.

    Args:
        lengths: of the sequences, where they are not all of the case's T tokens: the products of real tokens alone.
        device: where activations are, if not on the case's: "meta" where only shapes matter.
    """
    activations = _Activations(case, device or case.device)
    sequences = [case.tokens] * case.batch if lengths is None else list(lengths)
    rows = sum(sequences)
    if model.config.trigram_embeddings:
        yield EMBEDDINGS, _linear(model.embeddings.trigram, rows, activations)
    if model.embeddings_projection is not None:
        yield EMBEDDINGS, _linear(model.embeddings_projection, rows, activations)
    for block in model.encoder.blocks:
        for sublayer in block.sublayers:
            function = sublayer.function
            if isinstance(function, MixedAttention):
                for layer in (function.query, function.key, function.value, function.conv_value, function.pointwise):
                    yield MIXED, _linear(layer, rows, activations)
                yield MIXED, _linear(function.conv_kernel, rows, activations)
                for operands in _attention(function, sequences, activations):
                    yield MIXED, operands
                yield MIXED, _linear(function.output, rows, activations)
            elif isinstance(function, Attention):
                for layer in (function.query, function.key, function.value):
                    yield ATTENTION, _linear(layer, rows, activations)
                for operands in _attention(function, sequences, activations):
                    yield ATTENTION, operands
                yield ATTENTION, _linear(function.output, rows, activations)
            elif isinstance(function, DynamicConv):
                for layer in (function.value, function.gate, function.pointwise, function.conv_kernel, function.output):
                    yield DYNAMIC_CONV, _linear(layer, rows, activations)
            elif isinstance(sublayer, PostNormStack):
                for frame in sublayer:
                    for layer in (frame.function.up, frame.function.down):
                        yield FEED_FORWARD, _linear(layer, rows, activations)
            elif isinstance(function, FeedForward):
                for layer in (function.up, function.down):
                    yield FEED_FORWARD, _linear(layer, rows, activations)
            else:
                raise TypeError(f"encoder_operands: no products are known for {type(function).__name__}")


class _Activations:
    """Random tensors, one a shape."""

    def __init__(self, case: Case, device: str):
        self._options = {"device": device, "dtype": case.torch_dtype}
        self._made: dict[tuple[int, ...], torch.Tensor] = {}

    def __call__(self, *shape: int) -> torch.Tensor:
        if shape not in self._made:
            self._made[shape] = torch.randn(shape, **self._options)
        return self._made[shape]


def _attention(
    function: Attention | MixedAttention, sequences: list[int], activations: _Activations
) -> Iterator[Operands]:
    """Queries · keys and weights · values; without a softmax keys · values and queries · that. Of sequences that are
    equally long all at once, else one by one."""
    alike = len(set(sequences)) == 1
    for batch, tokens in [(len(sequences), sequences[0])] if alike else [(1, tokens) for tokens in sequences]:
        heads = batch * function.heads
        keys = activations(heads, tokens, function.head_size)  # [B·H, T, D]; queries and values are alike
        if isinstance(function, LinearAttention):
            yield keys.mT, keys
            yield keys, activations(heads, function.head_size, function.head_size)
        else:
            yield keys, keys.mT
            yield activations(heads, tokens, tokens), keys


def _linear(layer: nn.Linear | GroupedLinear, rows: int, activations: _Activations) -> Operands:
    weight = layer.weight.detach()
    if isinstance(layer, GroupedLinear):
        groups, width_in, _ = weight.shape
        return activations(rows, groups * width_in).unflatten(1, (groups, width_in)).transpose(0, 1), weight
    return activations(rows, layer.in_features), weight.mT
