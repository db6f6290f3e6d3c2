"""How many channels each part of an expression has, and which expressions therefore cannot be computed."""

from .parse import ExpressionError, parse_expression
from .tree import Binary, Input, Linear, Node, Unary

# What add, mul and max do with arguments of different widths. crop: leave out the wider one's further channels, as the
# searched models do. pad: fill up the narrower one with what changes nothing (0, 1, the lowest number), as the
# models transferred to TinyBERT's size were meant to; pad_published: as they do, which fill up max's with -1e-10.
WIDTH_RULES = ("crop", "pad", "pad_published")


def output_width(expression: str | Node, hidden: int, inner: int, widths: str = "crop") -> int:
    """Channels that an expression yields.

    Args:
        hidden: channels C of x. inner: F, where w1 is a layer from C to F channels and w2 one from F to C.
        widths: one of WIDTH_RULES.

    Raises:
        ExpressionError: a linear layer is given another number of channels than it takes.
    """
    text = str(expression)
    return _width(parse_expression(text), text, hidden, inner, max if widths.startswith("pad") else min)


def _width(node: Node, text: str, hidden: int, inner: int, combine) -> int:
    if isinstance(node, Input):
        return hidden
    if isinstance(node, Binary):
        return combine(_width(child, text, hidden, inner, combine) for child in (node.left, node.right))
    given = _width(node.argument, text, hidden, inner, combine)
    if isinstance(node, Unary):
        return given
    assert isinstance(node, Linear)
    takes, gives = (hidden, inner) if node.weight == 1 else (inner, hidden)
    if given != takes:
        raise ExpressionError(f"w{node.weight} takes {takes} channels and is given {given}", text, node.position)
    return gives
