"""Random expressions of the search space."""

from collections.abc import Callable
from random import Random

from bertkernels.errors import InputError

from .rules import HIGHEST, LOWEST, follows_rules
from .tree import ACTIVATIONS, COMBINATIONS, WEIGHTS, Binary, Input, Linear, Node, Unary

_LEAF = 0.3  # how often x ends a branch that might go on


def random_expression(
    generator: Random, accept: Callable[[Node], bool] = lambda tree: True, tries: int = 10_000
) -> Node:
    """An expression that follows the rules, grown downwards from the root; low trees are the likelier ones.

    Args:
        generator: where all chance comes from.
        accept: what else it must fulfil, such as widths that fit.

    Raises:
        InputError: nothing acceptable was found in so many tries.
    """
    for _ in range(tries):
        tree = _grow(generator, generator.randint(LOWEST, HIGHEST), WEIGHTS, Input)
        if follows_rules(tree) and accept(tree):
            return tree
    raise InputError(f"no expression that is accepted was found in {tries:,} tries")


def _grow(generator: Random, height: int, weights: tuple[int, ...], above: type) -> Node:
    """A tree of at most this height that uses just these weights, to stand inside a node of class `above`."""
    if not weights and (height == 0 or generator.random() < _LEAF):
        return Input()
    makers = [_binary]
    if above is not Unary and height > _least(len(weights), Unary):
        makers.append(_unary)
    if weights and above is not Linear and height > _least(len(weights) - 1, Linear):
        makers += [_linear, _linear]  # as often as the others together where both weights are still to come
    if height <= _least(len(weights), Binary) and len(weights) < 2:
        makers.remove(_binary)
    return generator.choice(makers)(generator, height, weights)


def _least(weights: int, above: type) -> int:
    """The least height of a tree with so many weights inside a node of this class."""
    return {0: 0, 1: 2 if above is Linear else 1, 2: 2}[weights]


def _unary(generator: Random, height: int, weights: tuple[int, ...]) -> Node:
    return Unary(generator.choice(ACTIVATIONS), _grow(generator, height - 1, weights, Unary))


def _linear(generator: Random, height: int, weights: tuple[int, ...]) -> Node:
    return Linear(_grow(generator, height - 1, weights[:-1], Linear), weights[-1])


def _binary(generator: Random, height: int, weights: tuple[int, ...]) -> Node:
    possible = [
        place
        for place in range(len(weights) + 1)  # w1 stands before w2
        if max(_least(place, Binary), _least(len(weights) - place, Binary)) < height
    ]
    place = generator.choice(possible)
    left, right = (_grow(generator, height - 1, part, Binary) for part in (weights[:place], weights[place:]))
    return Binary(generator.choice(COMBINATIONS), left, right)
