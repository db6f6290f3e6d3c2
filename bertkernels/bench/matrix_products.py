"""A ConvBERT's own matrix products and nothing else: what no implementation of it can leave out."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import FeedForward, GroupedLinear, MixedAttention

from .case import BOTH, Case

Operands = tuple[torch.Tensor, torch.Tensor]  # [M, I] and [I, O], or batches of them


def own_products(model: EncoderModel, case: Case) -> Callable[[], None]:
    """A function that does all matrix products of this model at this shape, with the model's own weights.

    Every linear layer (the pointwise half of the span's convolution, the kernels' and the embeddings' projection among
    them; without biases) and both products of the attention heads. With backward, also the products of both gradients
    of each. Weights and activations lie in memory as in the model, heads as its attention would have them at best, one
    after the other. Activations of one shape are one tensor in all layers.
    """
    activations = _Activations(case)
    products = list(_products(model, case, activations))
    with_gradients = [(left, right, activations(*left.shape[:-1], right.shape[-1])) for left, right in products]

    def forward() -> None:
        for left, right in products:
            left @ right

    def forward_and_backward() -> None:
        forward()
        for left, right, grad in reversed(with_gradients):
            grad @ right.mT
            # as autograd does it for weights [out, in]: the gradient comes out the way the weight lies
            (grad.mT @ left) if right.mT.is_contiguous() else (left.mT @ grad)

    return forward_and_backward if case.mode == BOTH else forward


class _Activations:
    """Random tensors, one a shape."""

    def __init__(self, case: Case):
        self._options = {"device": case.device, "dtype": case.torch_dtype}
        self._made: dict[tuple[int, ...], torch.Tensor] = {}

    def __call__(self, *shape: int) -> torch.Tensor:
        if shape not in self._made:
            self._made[shape] = torch.randn(shape, **self._options)
        return self._made[shape]


def _products(model: EncoderModel, case: Case, activations: _Activations) -> Iterator[Operands]:
    rows = case.batch * case.tokens
    if model.embeddings_projection is not None:
        yield _linear(model.embeddings_projection, rows, activations)
    for block in model.encoder.blocks:
        for sublayer in block.sublayers:
            function = sublayer.function
            if isinstance(function, MixedAttention):
                for layer in (function.query, function.key, function.value, function.conv_value, function.pointwise):
                    yield _linear(layer, rows, activations)
                yield _linear(function.conv_kernel, rows, activations)
                heads, tokens = case.batch * function.heads, case.tokens
                keys = activations(heads, tokens, function.head_size)  # [B·H, T, D]; queries and values are alike
                yield keys, keys.mT
                yield activations(heads, tokens, tokens), keys
                yield _linear(function.output, rows, activations)
            elif isinstance(function, FeedForward):
                for layer in (function.up, function.down):
                    yield _linear(layer, rows, activations)
            else:
                raise TypeError(f"own_products: no products are known for {type(function).__name__}")


def _linear(layer: nn.Linear | GroupedLinear, rows: int, activations: _Activations) -> Operands:
    weight = layer.weight.detach()
    if isinstance(layer, GroupedLinear):
        groups, width_in, _ = weight.shape
        return activations(rows, groups * width_in).unflatten(1, (groups, width_in)).transpose(0, 1), weight
    return activations(rows, layer.in_features), weight.mT
