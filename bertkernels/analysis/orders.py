"""Orders of an encoder's blocks: which block stands at each position.

An order is a tuple: `order[position]` is the block, by its number in the model as it was, that stands there. All
samplers give each order once, and the same ones for the same seed.
"""

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence

from bertkernels.errors import InputError

Order = tuple[int, ...]

_LISTED = 50_000  # where there are at most so many orders, they are listed and drawn from; else drawn until they differ


def identity(blocks: int) -> Order:
    """The order that changes nothing."""
    return tuple(range(blocks))


def fixed_points(order: Sequence[int]) -> int:
    """How many blocks stand where they stood."""
    return sum(block == position for position, block in enumerate(order))


def swapped(blocks: int, one: int, other: int) -> Order:
    """Two blocks in each other's place. Raises InputError for one that is not there, and for one twice."""
    for block in (one, other):
        if not 0 <= block < blocks:
            raise InputError(f"there is no block {block}: the model has {blocks}, numbered from 0")
    if one == other:
        raise InputError(f"a swap takes two blocks, got {one} twice")
    order = list(identity(blocks))
    order[one], order[other] = other, one
    return tuple(order)


def all_swaps(blocks: int) -> list[Order]:
    """Each two blocks in each other's place."""
    return [swapped(blocks, *pair) for pair in itertools.combinations(range(blocks), 2)]


def adjacent_swaps(blocks: int) -> list[Order]:
    """Each block and the next one in each other's place."""
    return [swapped(blocks, block, block + 1) for block in range(blocks - 1)]


def mirrored_swaps(blocks: int) -> list[Order]:
    """The first and the last block in each other's place, the second and the last but one, …"""
    return [swapped(blocks, block, blocks - 1 - block) for block in range(blocks // 2)]


def reversals(blocks: int, length: int) -> list[Order]:
    """Each so many consecutive blocks the other way round. Raises InputError for a length that is not there."""
    if not 2 <= length <= blocks:
        raise InputError(f"reversals must be of 2 to {blocks} blocks, not {length}")
    plain = identity(blocks)
    return [
        plain[:first] + plain[first : first + length][::-1] + plain[first + length :]
        for first in range(blocks - length + 1)
    ]


def count_with_fixed(blocks: int, fixed: int) -> int:
    """How many orders have exactly so many fixed points."""
    return math.comb(blocks, fixed) * _derangements(blocks - fixed) if 0 <= fixed <= blocks else 0


def with_fixed(blocks: int, fixed: int, count: int, seed: int) -> list[Order]:
    """Different orders with exactly `fixed` fixed points, each as likely as another; all of them where there are no
    more than `count`.

    (The released lists kept so many blocks and shuffled the others, which left some of these in their place too.)

    Raises:
        InputError: there is no such order: all but one block in their place, say.
    """
    total = count_with_fixed(blocks, fixed)
    if total == 0:
        raise InputError(f"no order of {blocks} blocks leaves exactly {fixed} of them in their place")
    generator = random.Random(f"{seed} fixed {blocks} {fixed}")
    if total <= _LISTED:
        return _chosen(list(_all_with_fixed(blocks, fixed)), count, generator)

    def drawn() -> Iterator[Order]:
        while True:
            kept = set(generator.sample(range(blocks), fixed))
            others = [block for block in range(blocks) if block not in kept]
            shuffled = others[:]
            while any(map(int.__eq__, others, shuffled)):  # about e tries
                generator.shuffle(shuffled)
            yield _placed(identity(blocks), others, shuffled)

    return _different(drawn(), min(count, total))


def group_shuffles(blocks: int, groups: Sequence[Sequence[int]], count: int, seed: int) -> list[Order]:
    """Different orders that shuffle each group of positions among themselves, never the order that changes nothing; all
    of them where there are no more than `count`.

    Raises:
        InputError: groups overlap, have positions that are not there, or leave nothing to shuffle.
    """
    members = [position for group in groups for position in group]
    if len(set(members)) < len(members) or not all(0 <= position < blocks for position in members):
        raise InputError(f"groups must be different positions from 0 to {blocks - 1}, got {list(map(list, groups))}")
    total = math.prod(math.factorial(len(group)) for group in groups)
    if total < 2:
        raise InputError(f"groups {list(map(list, groups))} leave nothing to shuffle")
    generator = random.Random(f"{seed} groups {blocks} {list(map(list, groups))}")
    plain = identity(blocks)

    def placed(parts: Iterable[Sequence[int]]) -> Order:
        return _placed(plain, members, [position for part in parts for position in part])

    if total <= _LISTED:
        listed = map(placed, itertools.product(*(itertools.permutations(group) for group in groups)))
        return _chosen([order for order in listed if order != plain], count, generator)

    def drawn() -> Iterator[Order]:
        while True:
            order = placed(generator.sample(list(group), len(group)) for group in groups)
            if order != plain:
                yield order

    return _different(drawn(), min(count, total - 1))


def repeated(blocks: int, block: int) -> Order:
    """One block in all places: weights shared across the depth, as in ALBERT."""
    return periodic(blocks, (block,))


def periodic(blocks: int, period: Sequence[int]) -> Order:
    """These blocks over and over. Raises InputError for one that is not there, and for none."""
    if not period or not all(0 <= block < blocks for block in period):
        raise InputError(f"a period must be blocks from 0 to {blocks - 1}, got {list(period)}")
    return tuple(itertools.islice(itertools.cycle(period), blocks))


def read_order(text: str, blocks: int, repeats: bool = False) -> Order:
    """An order as numbers with commas between them.

    Raises:
        InputError: it is not as many numbers as there are blocks, each of them once, or with `repeats` any of them.
    """
    try:
        order = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"an order is numbers with commas between them, got {text!r}") from error
    known = all(0 <= block < blocks for block in order)
    if len(order) != blocks or not known or (not repeats and len(set(order)) < blocks):
        what = f"{blocks} numbers from 0 to {blocks - 1}" + ("" if repeats else ", each once")
        raise InputError(f"an order of this model's blocks is {what}, got {text!r}")
    return order


def _derangements(count: int) -> int:
    """Of so many things, orders with none in its place."""
    before, now = 0, 1  # of -1 and of 0 things
    for size in range(1, count + 1):
        before, now = now, (size - 1) * (now + before)
    return now


def _all_with_fixed(blocks: int, fixed: int) -> Iterator[Order]:
    plain = identity(blocks)
    size = blocks - fixed
    deranged = [order for order in itertools.permutations(range(size)) if not fixed_points(order)]
    for others in itertools.combinations(plain, size):
        for order in deranged:
            yield _placed(plain, others, [others[place] for place in order])


def _placed(order: Order, positions: Sequence[int], blocks: Sequence[int]) -> Order:
    changed = list(order)
    for position, block in zip(positions, blocks, strict=True):
        changed[position] = block
    return tuple(changed)


def _chosen(orders: list[Order], count: int, generator: random.Random) -> list[Order]:
    return orders if len(orders) <= count else generator.sample(orders, count)


def _different(drawn: Iterator[Order], count: int) -> list[Order]:
    found: dict[Order, None] = {}
    while len(found) < count:
        found.setdefault(next(drawn))
    return list(found)
