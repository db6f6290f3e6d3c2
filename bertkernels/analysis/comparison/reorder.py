"""Swaps and shuffles of a trained network's layers: at once, and after training on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bertkernels.analysis.comparison.images import Images
from bertkernels.analysis.comparison.networks import LayeredNetwork
from bertkernels.analysis.comparison.train import accuracy, train


@dataclass(frozen=True)
class ReorderedAccuracy:
    """Of one order.

    Attributes:
        order: of the layers after the first.
        fixed_points: how many of these stand where they stood.
        direct: test accuracy in this order, untrained.
        after_epoch: test accuracy after each epoch of training on, as many as there were.
    """

    order: tuple[int, ...]
    fixed_points: int
    direct: float
    after_epoch: tuple[float, ...]


def reordered_accuracies(
    network: LayeredNetwork,
    images: Images,
    orders: Iterable[Sequence[int]],
    epochs: int = 0,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
) -> Iterator[ReorderedAccuracy]:
    """Tests a copy of the network in each order, as the results come; the network itself stays as it is.

    Args:
        orders: permutations of `network.movable` numbers, as `analysis.orders` makes them.
        epochs: of training each copy on, at a constant rate; the released code has 5 for swaps, none for shuffles.

    Raises:
        InputError: an order that is none.
    """
    for order in orders:
        copy = network.reordered(order)
        direct = accuracy(copy, images)
        after = []
        for epoch in range(epochs):
            train(copy, images, 1, learning_rate, batch_size, seed + epoch, decays=False)
            after.append(accuracy(copy, images))
        fixed = sum(number == position for position, number in enumerate(order))
        yield ReorderedAccuracy(tuple(order), fixed, direct, tuple(after))
