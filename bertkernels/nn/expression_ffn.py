"""The feed-forward sub-layer that computes an expression."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..ops.row_programs import combine
from .activation import FUSED_NAME, gelu_tanh
from .expressions import Binary, Input, Linear, Node, Unary, output_width, parse_expression, row_programs
from .layout import ALL_TOKENS, Layout
from .linear import Weights, apply_linear, children
from .whole_sublayer import expression_block, feed_forward_block

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
# their names in `bertkernels.nn.ACTIVATIONS`, by which they are fused into the linear layer below
_FUSED = {name: "gelu_tanh" if name == "gelu" else name for name in FUNCTIONS}


class ExpressionFeedForward(nn.Module):
    """A function of x, token by token, by two linear layers: w1 from C to F channels and w2 from F to C.

    On the CPU, activations of and products with what a linear layer yields are fused into it. In inference an
    expression whose w2 stands above w1 is one op together with its frame; where gradients are wanted, one of the form
    linear(activation(linear(x, w1)), w2) is.

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
        self._most = intermediate_size
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
        most, hidden = self._most, self.up.in_features
        inner = most if intermediate_size is None else intermediate_size
        if not 1 <= inner <= most:
            raise ValueError(f"of {most} channels between the layers 1 to {most} can be used, not {inner}")
        output_width(expression, hidden, inner, self.widths, yields=hidden)
        self.expression = expression
        self.inner = inner
        self._tree = parse_expression(expression)
        self._programs = row_programs(self._tree)
        self._computes = (self._programs, self.widths, inner)  # on the weights that each has

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x […, C] → […, C]; tokens do not see each other, so `layout` is not read."""
        return self._value(self._tree, x, self._slices())

    def as_one_op(self, x: torch.Tensor, layout: Layout, norm: nn.Module, dropout: nn.Module) -> torch.Tensor | None:
        """norm(x + dropout(self(x))) as one op, or None where modules must be called."""
        out = self.stack_as_one_op([(self, norm, dropout)], x)
        activation = _plain_activation(self._tree)
        if out is not None or activation is None:
            return out
        up, down = children(self, "up", "down")
        fused = FUSED_NAME[_FUSED[activation]]
        return feed_forward_block(self, up, down, fused, norm, dropout, x, weights=self._slices())

    def stack_as_one_op(
        self, frames: Sequence[tuple[nn.Module, nn.Module, nn.Module]], x: torch.Tensor
    ) -> torch.Tensor | None:
        """What the functions of frames, the first of which is this, yield in a row, each with its norm and dropout, as
        one op; None where modules must be called."""
        if self._programs is None:
            return None
        weights = []
        for function, _, _ in frames:
            if type(function) is not type(self) or function._computes != self._computes:
                return None
            weights.append(function._slices())
        return expression_block(self, frames, weights, self._programs, self.widths, x)

    def extra_repr(self) -> str:
        return f"{self.expression}, {self.inner} channels between, widths={self.widths!r}"

    def _slices(self) -> tuple[Weights, Weights] | None:
        """Weights and biases of w1 and w2 for fewer channels between them; None where all are used."""
        if self.inner == self._most:
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
            if isinstance(node.argument, Linear):
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


def _plain_activation(tree: Node) -> str | None:
    """The activation of linear(activation(linear(x, w1)), w2); None of anything else."""
    if isinstance(tree, Linear) and tree.weight == 2 and isinstance(tree.argument, Unary):
        below = tree.argument.argument
        if isinstance(below, Linear) and below.weight == 1 and isinstance(below.argument, Input):
            return tree.argument.name
    return None
