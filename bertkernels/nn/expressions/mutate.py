"""Mutations of expressions, each by the chance of a generator that is given.

Three are those of EfficientBERT's search, which `mutate` chains as it does. Its fourth redraws constants, of which an
expression has none. `remove_node`, the inverse of `insert_node`, is for searches that chain others.
"""

from collections.abc import Callable
from random import Random

from .rules import follows_rules
from .tree import (
    ACTIVATIONS,
    COMBINATIONS,
    WEIGHTS,
    Binary,
    Input,
    Linear,
    Node,
    Unary,
    children,
    nodes,
    replace_at,
    shape_of,
    with_shape,
)

_DEEPEST = 3  # of a new subtree
_TRIES = 1000


def replace_subtree(tree: Node, generator: Random) -> Node:
    """Another tree in place of one node, full and 0 to 3 high. The result may break rules, as with all below."""
    index, _ = _pick(tree, generator)
    return _kept(tree, replace_at(tree, index, _full(generator, generator.randint(0, _DEEPEST))))


def replace_node(tree: Node, generator: Random) -> Node:
    """Another activation or combination in place of one, with the same arguments."""
    index, node = _pick(tree, generator, Unary, Binary)
    if isinstance(node, Unary):
        return replace_at(tree, index, Unary(generator.choice(ACTIVATIONS), node.argument))
    if isinstance(node, Binary):
        return replace_at(tree, index, Binary(generator.choice(COMBINATIONS), node.left, node.right))
    return tree


def insert_node(tree: Node, generator: Random) -> Node:
    """A new function around one node; the other argument of a combination is x."""
    index, node = _pick(tree, generator)
    return _kept(tree, replace_at(tree, index, _function(generator, lambda: Input(), node)))


def remove_node(tree: Node, generator: Random) -> Node:
    """One of its arguments in place of a function."""
    index, node = _pick(tree, generator, Unary, Binary, Linear)
    return replace_at(tree, index, generator.choice(children(node))) if children(node) else tree


def mutate(
    tree: Node, generator: Random, accept: Callable[[Node], bool] = lambda tree: True, tries: int = _TRIES
) -> Node:
    """A subtree replaced, then a node, then one inserted, until that follows the rules; the same tree if it never does.

    Args:
        tree: its linear layers' names are kept.
        accept: what else the result must fulfil, such as widths that fit.
    """
    for _ in range(tries):
        mutant = insert_node(replace_node(replace_subtree(tree, generator), generator), generator)
        if follows_rules(mutant) and accept(mutant):
            return mutant
    return tree


def _pick(tree: Node, generator: Random, *kinds: type) -> tuple[int, Node]:
    """A node of these classes (none: of any) with its number; the root where there is none."""
    found = [(index, node) for index, node in enumerate(nodes(tree)) if not kinds or isinstance(node, kinds)]
    return generator.choice(found) if found else (0, tree)


def _full(generator: Random, height: int) -> Node:
    if height == 0:
        return Input()
    return _function(generator, lambda: _full(generator, height - 1))


def _function(generator: Random, argument: Callable[[], Node], first: Node | None = None) -> Node:
    """A random function of new arguments, or with `first` at one place."""
    name = generator.choice((*ACTIVATIONS, *COMBINATIONS, "linear"))
    given = argument() if first is None else first
    if name == "linear":
        return Linear(given, generator.choice(WEIGHTS))
    if name in ACTIVATIONS:
        return Unary(name, given)
    both = [given, argument()]
    generator.shuffle(both)
    return Binary(name, *both)


def _kept(tree: Node, mutant: Node) -> Node:
    """With the names that the linear layers had."""
    return with_shape(mutant, shape_of(tree))
