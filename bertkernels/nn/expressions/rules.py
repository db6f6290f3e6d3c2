"""The rules of EfficientBERT's search space: which expressions its search accepts.

They go beyond what it takes to compute an expression. That weights stand as second arguments of `linear` alone, and
that x appears, is a matter of the types and holds of everything that can be read.
"""

from collections.abc import Callable
from typing import NamedTuple

from .parse import ExpressionError, parse_expression
from .tree import WEIGHTS, Binary, Linear, Node, Unary, children, height, nodes

LOWEST, HIGHEST = 3, 7


class Broken(NamedTuple):
    """How a rule is broken, and at which node."""

    message: str
    node: Node


def height_within_limits(tree: Node) -> Broken | None:
    """The tree is 3 to 7 high."""
    found = height(tree)
    if LOWEST <= found <= HIGHEST:
        return None
    return Broken(f"the tree is {found} high, {LOWEST} to {HIGHEST} are allowed", tree)


def each_weight_once(tree: Node) -> Broken | None:
    """w1 and w2 are used, each by one `linear`."""
    for weight in WEIGHTS:
        users = [node for node in nodes(tree) if isinstance(node, Linear) and node.weight == weight]
        if not users:
            return Broken(f"w{weight} is not used", tree)
        if len(users) > 1:
            return Broken(f"w{weight} is used a second time", users[1])
    return None


def first_weight_first(tree: Node) -> Broken | None:
    """w1 stands before w2 in the text."""
    # a linear's weight follows its argument: text order is that of a walk that leaves nodes last
    order = [node for node in _upwards(tree) if isinstance(node, Linear)]
    for before, after in zip(order, order[1:], strict=False):
        if before.weight > after.weight:
            return Broken("w2 stands before w1", before)
    return None


def no_activation_inside_activation(tree: Node) -> Broken | None:
    """An activation's argument is no activation."""
    return _nested(tree, Unary, "an activation stands directly inside an activation")


def no_linear_inside_linear(tree: Node) -> Broken | None:
    """A linear layer's argument is no linear layer."""
    return _nested(tree, Linear, "a linear layer stands directly inside a linear layer")


def linears_alike(tree: Node) -> Broken | None:
    """All linear layers have the same name: `linear`, or `linear<S>_<R>` with the same S and R."""
    linears = [node for node in nodes(tree) if isinstance(node, Linear)]
    for node in linears[1:]:
        if node.shape != linears[0].shape:
            return Broken("its name differs from the first linear layer's", node)
    return None


def arguments_differ(tree: Node) -> Broken | None:
    """The two arguments of add, mul and max are not the same text.

    The original compares only arguments without a comma, so that add(max(x, tanh(x)), max(x, tanh(x))) passes there.
    """
    for node in nodes(tree):
        if isinstance(node, Binary) and node.left == node.right:
            return Broken(f"both arguments of {node.name} are the same", node)
    return None


RULES: tuple[Callable[[Node], Broken | None], ...] = (
    height_within_limits,
    each_weight_once,
    first_weight_first,
    no_activation_inside_activation,
    no_linear_inside_linear,
    linears_alike,
    arguments_differ,
)


def follows_rules(tree: Node) -> bool:
    """Whether the search space has this expression."""
    return not any(rule(tree) for rule in RULES)


def check_rules(expression: str | Node) -> Node:
    """The expression's tree.

    Raises:
        ExpressionError: it cannot be read, or breaks a rule, which is named beside the place.
    """
    text = str(expression)
    tree = parse_expression(text)  # of a tree too: positions are then those of the text that is shown
    for rule in RULES:
        broken = rule(tree)
        if broken is not None:
            raise ExpressionError(f"{broken.message} (rule {rule.__name__})", text, broken.node.position)
    return tree


def _upwards(tree: Node):
    for child in children(tree):
        yield from _upwards(child)
    yield tree


def _nested(tree: Node, kind: type, message: str) -> Broken | None:
    for node in nodes(tree):
        if isinstance(node, kind) and isinstance(node.argument, kind):
            return Broken(message, node.argument)
    return None
