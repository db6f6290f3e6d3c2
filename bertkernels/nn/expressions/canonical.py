"""One form for expressions that differ only in the order and grouping of what is added, multiplied or compared."""

import hashlib
from collections.abc import Iterator

from .tree import Binary, Node, children, plain, with_children


def canonical(tree: Node) -> Node:
    """The same function with plain names, the arguments of add, mul and max in one order, grouped to the left.

    All three are commutative and associative, and stay so where widths differ. For comparing: the form of a valid
    expression may break the rules of height and of the weights' order.
    """
    return _canonical(plain(tree))


def expression_hash(tree: Node) -> str:
    """Sixteen hexadecimal digits, the same for expressions of the same canonical form, on every machine."""
    return hashlib.sha256(str(canonical(tree)).encode()).hexdigest()[:16]


def _canonical(tree: Node) -> Node:
    if not isinstance(tree, Binary):
        return with_children(tree, tuple(_canonical(child) for child in children(tree)))
    terms = sorted((_canonical(term) for term in _terms(tree, tree.name)), key=str)
    combined = terms[0]
    for term in terms[1:]:
        combined = Binary(tree.name, combined, term)
    return combined


def _terms(tree: Node, name: str) -> Iterator[Node]:
    """What a nest of one combination combines."""
    if isinstance(tree, Binary) and tree.name == name:
        for child in children(tree):
            yield from _terms(child, name)
    else:
        yield tree
