"""How many channels each part of an expression has, and which expressions therefore cannot be computed."""

from collections.abc import Iterator

from .parse import ExpressionError, parse_expression
from .tree import Binary, Input, Linear, Node, children

# What add, mul and max do with arguments of different widths. crop: leave out the wider one's further channels, as the
# searched models do. pad: fill up the narrower one with what changes nothing (0, 1, the lowest number), as the
# models transferred to TinyBERT's size were meant to; pad_published: as they do, which fill up max's with -1e-10.
WIDTH_RULES = ("crop", "pad", "pad_published")


def output_width(
    expression: str | Node, hidden: int, inner: int, widths: str = "crop", yields: int | None = None
) -> int:
    """Channels that an expression yields.

    Args:
        hidden: channels C of x. inner: F, where w1 is a layer from C to F channels and w2 one from F to C.
        widths: one of WIDTH_RULES.
        yields: how many it must yield, if that matters.

    Raises:
        ExpressionError: a linear layer is given another number of channels than it takes, or the result is another.
    """
    *_, (_, width) = node_widths(expression, hidden, inner, widths)
    if yields is not None and width != yields:
        raise ExpressionError(f"it yields {width} channels, and x has {yields}", str(expression), 0)
    return width


def node_widths(expression: str | Node, hidden: int, inner: int, widths: str = "crop") -> Iterator[tuple[Node, int]]:
    """Each node with its channels, arguments before the functions of them. Arguments and errors: `output_width`'s."""
    text = str(expression)
    yield from _widths(parse_expression(text), text, hidden, inner, min if widths == "crop" else max)


def _widths(node: Node, text: str, hidden: int, inner: int, combine) -> Iterator[tuple[Node, int]]:
    given = []
    for child in children(node):
        for below, width in _widths(child, text, hidden, inner, combine):
            yield below, width
        given.append(width)
    if isinstance(node, Input):
        yield node, hidden
    elif isinstance(node, Binary):
        yield node, combine(given)
    elif isinstance(node, Linear):
        takes, gives = (hidden, inner) if node.weight == 1 else (inner, hidden)
        if given != [takes]:
            raise ExpressionError(f"w{node.weight} takes {takes} channels and is given {given[0]}", text, node.position)
        yield node, gives
    else:
        yield node, given[0]
