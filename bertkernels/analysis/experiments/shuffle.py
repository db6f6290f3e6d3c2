"""Blocks in random orders that leave so many of them in their place; weights shared across the depth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bertkernels.analysis import changes, orders
from bertkernels.analysis.experiments.block_ranges import read_range
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.jobs import Trial
from bertkernels.errors import InputError

_ALL = "all"


@dataclass
class ShuffleArguments:
    """Which orders."""

    fixed: list[str] = field(
        default_factory=lambda: [_ALL],
        metadata={"help": "How many blocks stay exactly where they were: numbers, all that there can be, or none."},
    )
    orders_each: int = field(
        default=10, metadata={"help": "Different orders for each of these, as far as there are so many."}
    )
    order_seed: int = field(default=0, metadata={"help": "Of the drawing of orders."})
    groups: list[str] | None = field(
        default=None, metadata={"help": 'Shuffle within groups of blocks only; a set of groups is like "0-3 4-7".'}
    )
    orders: list[str] | None = field(default=None, metadata={"help": "Orders themselves, such as 2,0,1,3."})
    shared: list[str] | None = field(
        default=None,
        metadata={"help": "Blocks that stand in all places, all for each of them in turn, or periods such as 0,1,2."},
    )


class Shuffle(ModelExperiment):
    """Each order once, although several flags may ask for it."""

    name = "shuffle"
    options: ShuffleArguments

    def check(self) -> None:
        super().check()
        if self.options.orders_each < 1:
            raise InputError(f"--orders_each must be at least 1, not {self.options.orders_each}")

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        blocks = len(self.subject.layered.blocks)
        trials: dict[orders.Order, Trial] = {}
        for how, order in self._orders(blocks):
            trials.setdefault(order, _trial(how, order))
        return list(trials.values())

    def _orders(self, blocks: int) -> Iterator[tuple[str, orders.Order]]:
        options = self.options
        for fixed in _numbers("--fixed", options.fixed, _all_fixed(blocks)):
            for order in orders.with_fixed(blocks, fixed, options.orders_each, options.order_seed):
                yield "fixed", order
        for text in options.groups or ():
            groups = [read_range(part, blocks) for part in text.split()]
            for order in orders.group_shuffles(blocks, groups, options.orders_each, options.order_seed):
                yield f"groups {text}", order
        for text in options.orders or ():
            yield "given", orders.read_order(text, blocks)
        for text in options.shared or ():
            if text == _ALL:
                for block in range(blocks):
                    yield "shared", orders.repeated(blocks, block)
            else:
                yield "shared", orders.periodic(blocks, _numbers("--shared", text.split(","), ()))


def _all_fixed(blocks: int) -> list[int]:
    """From none to all but two: what changes anything."""
    return list(range(blocks - 1))


def _numbers(flag: str, texts: Sequence[str], everything: Sequence[int]) -> list[int]:
    if list(texts) == ["none"]:
        return []
    found = []
    for text in texts:
        if text == _ALL and everything:
            found += everything
            continue
        try:
            found.append(int(text))
        except ValueError as error:
            raise InputError(f"{flag} must be numbers, not {text!r}") from error
    return found


def _trial(how: str, order: orders.Order) -> Trial:
    repeats = len(set(order)) < len(order)
    labels = {"how": how, "order": list(order), "fixed_points": orders.fixed_points(order)}
    if repeats:
        labels["shared_blocks"] = sorted(set(order))
    return Trial(f"order {','.join(map(str, order))}", labels, (changes.order(order, repeats),))
