"""Expressions as the row programs around two products that `bertkernels.ops.expression_block` runs."""

from .tree import Binary, Input, Linear, Node, Unary, nodes

Programs = tuple[str, str, str]  # before w1, between the two, after w2

_NAMES = {"gelu": "gelu_tanh"}  # the op's name of an activation where it is another


def row_programs(tree: Node) -> Programs | None:
    """The programs of an expression; None where w1's layer does not lie below w2's, or one stands more than once."""
    layers = [node for node in nodes(tree) if isinstance(node, Linear)]  # from above
    if [layer.weight for layer in layers] != [2, 1] or not any(node is layers[1] for node in nodes(layers[0])):
        return None
    down, up = layers
    return _program(up.argument), _program(down.argument), _program(tree)


def _program(node: Node) -> str:
    if isinstance(node, Input):
        return "x"
    if isinstance(node, Linear):
        return "y"
    if isinstance(node, Unary):
        return f"{_program(node.argument)} {_NAMES.get(node.name, node.name)}"
    assert isinstance(node, Binary)
    return f"{_program(node.left)} {_program(node.right)} {node.name}"
