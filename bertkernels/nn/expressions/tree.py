"""Expressions as trees, typed: tensors are computed, weights stand as the second argument of `linear` alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

ACTIVATIONS = ("gelu", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "swish")
COMBINATIONS = ("add", "mul", "max")
WEIGHTS = (1, 2)
MOST = 4  # stacked feed-forward layers, and parts of the full width that one may have

Shape = tuple[int, int]  # stacked layers S, and R of the width's 1/R


def _position() -> int:
    return field(default=0, compare=False, repr=False)


class _Node:
    def __str__(self) -> str:
        return _text(self, "linear", "w", ", ")


@dataclass(frozen=True)
class Input(_Node):
    """x. `position`, here and below: where it stands in the text that it was read from."""

    position: int = _position()


@dataclass(frozen=True)
class Linear(_Node):
    """linear(argument, w<weight>); `shape` if its name carried one, as the original's `linear2_1` does."""

    argument: Node
    weight: int
    shape: Shape | None = None
    position: int = _position()


@dataclass(frozen=True)
class Unary(_Node):
    """An activation."""

    name: str
    argument: Node
    position: int = _position()


@dataclass(frozen=True)
class Binary(_Node):
    """add, mul or max, element by element."""

    name: str
    left: Node
    right: Node
    position: int = _position()


Node = Input | Linear | Unary | Binary


def children(node: Node) -> tuple[Node, ...]:
    """Its arguments that are tensors."""
    if isinstance(node, Input):
        return ()
    return (node.left, node.right) if isinstance(node, Binary) else (node.argument,)


def with_children(node: Node, arguments: tuple[Node, ...]) -> Node:
    """The same node over other arguments."""
    if isinstance(node, Input):
        return node
    names = ("left", "right") if isinstance(node, Binary) else ("argument",)
    return replace(node, **dict(zip(names, arguments, strict=True)))


def nodes(tree: Node) -> Iterator[Node]:
    """All of them, in the order of the text."""
    yield tree
    for child in children(tree):
        yield from nodes(child)


def height(tree: Node) -> int:
    """Edges from the root down to the deepest leaf, weights counted as leaves: of x it is 0."""
    if isinstance(tree, Input):
        return 0
    return 1 + max(height(child) for child in children(tree))


def replace_at(tree: Node, index: int, new: Node) -> Node:
    """The tree with another one in place of its node number `index`, in the order of `nodes`."""
    if index == 0:
        return new
    index -= 1
    arguments = list(children(tree))
    for place, child in enumerate(arguments):
        size = sum(1 for _ in nodes(child))
        if index < size:
            arguments[place] = replace_at(child, index, new)
            return with_children(tree, tuple(arguments))
        index -= size
    raise IndexError("no such node")


def shape_of(tree: Node) -> Shape | None:
    """What the names of its linear layers carry; that of the first."""
    return next((node.shape for node in nodes(tree) if isinstance(node, Linear)), None)


def with_shape(tree: Node, shape: Shape | None) -> Node:
    """The same expression whose linear layers' names carry this, or nothing."""
    tree = with_children(tree, tuple(with_shape(child, shape) for child in children(tree)))
    return replace(tree, shape=shape) if isinstance(tree, Linear) else tree


def plain(tree: Node) -> Node:
    """The same expression with plain names: what it computes, without how often and how wide."""
    return with_shape(tree, None)


def original_text(tree: Node, shape: Shape | None = None) -> str:
    """As the original writes it: `linear2_1(x,wb1)`. `shape`, where given, replaces what names carry."""
    return _text(tree if shape is None else with_shape(tree, shape), "linear", "wb", ",")


def _text(node: Node, linear: str, weight: str, comma: str) -> str:
    if isinstance(node, Input):
        return "x"
    arguments = [_text(child, linear, weight, comma) for child in children(node)]
    if isinstance(node, Linear):
        name = linear if node.shape is None else f"{linear}{node.shape[0]}_{node.shape[1]}"
        return f"{name}({arguments[0]}{comma}{weight}{node.weight})"
    return f"{node.name}({comma.join(arguments)})"
