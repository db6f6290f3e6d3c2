"""The feed-forward sub-layer that computes an expression."""

from collections.abc import Callable

import torch
from torch import nn

from .activation import FUSED_NAME, gelu_tanh
from .expressions import Binary, Input, Linear, Node, Unary, output_width, parse_expression
from .layout import ALL_TOKENS, Layout
from .linear import Weights, apply_linear, children
from .whole_sublayer import feed_forward_block

PLAIN_FFN = "linear(gelu(linear(x, w1)), w2)"

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": gelu_tanh,  # the original's everywhere
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": nn.functional.relu,
    "leaky_relu": nn.functional.leaky_relu,  # slope 0.01
    "elu": nn.functional.elu,
    "swish": nn.functional.silu,
}
# those that are fused into the linear layer below, by their names in `bertkernels.nn.ACTIVATIONS`
_FUSED = {"gelu": "gelu_tanh", "sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu"}
_COMBINATIONS = {"add": torch.add, "mul": torch.mul, "max": torch.maximum}
_PUBLISHED_LOWEST = -1e-10  # surely -1e10 was meant


class ExpressionFeedForward(nn.Module):
    """A function of x, token by token, by two linear layers: w1 from C to F channels and w2 from F to C.

    On the CPU, activations and products with what a linear layer yields are fused into it where ops have them; an
    expression of the form linear(activation(linear(x, w1)), w2) is one op together with its frame.

    Args:
        hidden_size: C. intermediate_size: F.
        expression: see `bertkernels.nn.expressions`. Anything that can be computed: the search space's rules are not
            asked.
        widths: how add, mul and max treat arguments of different widths, one of `expressions.WIDTH_RULES`.

    Raises:
        ExpressionError: an expression that cannot be read, or whose widths do not fit.

    Source: the released program of EfficientBERT (Dong et al. 2021, Findings of EMNLP).
    """

    def __init__(self, hidden_size: int, intermediate_size: int, expression: str = PLAIN_FFN, widths: str = "crop"):
        super().__init__()
        self.widths = widths
        self.up = nn.Linear(hidden_size, intermediate_size)
        self.down = nn.Linear(intermediate_size, hidden_size)
        self.choose(expression)

    def choose(self, expression: str, intermediate_size: int | None = None) -> None:
        """Has the module compute another expression from now on, by the first channels between its layers.

        Args:
            intermediate_size: how many of its F channels; None: all. Weights of the others get gradients of zero.

        Raises:
            ExpressionError: as for the class. ValueError: there are not so many channels.
        """
        most, hidden = self.up.out_features, self.up.in_features
        inner = most if intermediate_size is None else intermediate_size
        if not 1 <= inner <= most:
            raise ValueError(f"of {most} channels between the layers 1 to {most} can be used, not {inner}")
        output_width(expression, hidden, inner, self.widths, yields=hidden)
        self.expression = expression
        self.inner = inner
        self._tree = parse_expression(expression)

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x […, C] → […, C]; tokens do not see each other, so `layout` is not read."""
        return self._value(self._tree, x, self._slices())

    def as_one_op(self, x: torch.Tensor, layout: Layout, norm: nn.Module, dropout: nn.Module) -> torch.Tensor | None:
        """norm(x + dropout(self(x))) as one op, or None where modules must be called."""
        activation = _plain_activation(self._tree)
        if activation not in _FUSED:
            return None
        up, down = children(self, "up", "down")
        fused = FUSED_NAME[_FUSED[activation]]
        return feed_forward_block(up, down, fused, norm, dropout, x, weights=self._slices())

    def extra_repr(self) -> str:
        return f"{self.expression}, {self.inner} channels between, widths={self.widths!r}"

    def _slices(self) -> tuple[Weights, Weights] | None:
        """Weights and biases of w1 and w2 for fewer channels between them; None where all are used."""
        if self.inner == self.up.out_features:
            return None
        # contiguous as in a module of that size: then products are the same to the bit
        narrow = self.down.weight[:, : self.inner].contiguous()  # [C, F]
        return (self.up.weight[: self.inner], self.up.bias[: self.inner]), (narrow, self.down.bias)

    def _value(self, node: Node, x: torch.Tensor, weights: tuple[Weights, Weights] | None) -> torch.Tensor:
        if isinstance(node, Input):
            return x
        if isinstance(node, Linear):
            return self._linear(node, x, weights)
        if isinstance(node, Unary):
            if isinstance(node.argument, Linear) and node.name in _FUSED:
                return self._linear(node.argument, x, weights, activation=_FUSED[node.name])
            return FUNCTIONS[node.name](self._value(node.argument, x, weights))
        return self._combined(node, x, weights)

    def _combined(self, node: Binary, x: torch.Tensor, weights: tuple[Weights, Weights] | None) -> torch.Tensor:
        linear, other = (node.left, node.right) if isinstance(node.left, Linear) else (node.right, node.left)
        factor = self._value(other, x, weights)
        if node.name == "mul" and isinstance(linear, Linear):
            width = self.inner if linear.weight == 1 else self.up.in_features
            if factor.shape[-1] == width:
                return self._linear(linear, x, weights, multiplier=factor)
        return combine(node.name, self._value(linear, x, weights), factor, self.widths)

    def _linear(self, node: Linear, x: torch.Tensor, weights: tuple[Weights, Weights] | None, **after) -> torch.Tensor:
        layer = self.up if node.weight == 1 else self.down
        own = None if weights is None else weights[node.weight - 1]
        return apply_linear(layer, self._value(node.argument, x, weights), weights=own, **after)


def combine(name: str, left: torch.Tensor, right: torch.Tensor, widths: str = "crop") -> torch.Tensor:
    """add, mul or max of […, A] and […, B] → […, min(A, B)] with "crop", else […, max(A, B)].

    "pad" fills the narrower one up with what changes nothing, so the wider one's further channels come out as they are;
    with "pad_published" those of max are cut off at -1e-10.
    """
    if left.shape[-1] == right.shape[-1]:
        return _COMBINATIONS[name](left, right)
    narrow = min(left.shape[-1], right.shape[-1])
    out = _COMBINATIONS[name](left[..., :narrow], right[..., :narrow])
    if widths == "crop":
        return out
    rest = (left if left.shape[-1] > narrow else right)[..., narrow:]
    if name == "max" and widths == "pad_published":
        rest = rest.clamp(min=_PUBLISHED_LOWEST)
    return torch.cat([out, rest], -1)


def _plain_activation(tree: Node) -> str | None:
    """The activation of linear(activation(linear(x, w1)), w2); None of anything else."""
    if isinstance(tree, Linear) and tree.weight == 2 and isinstance(tree.argument, Unary):
        below = tree.argument.argument
        if isinstance(below, Linear) and below.weight == 1 and isinstance(below.argument, Input):
            return tree.argument.name
    return None
