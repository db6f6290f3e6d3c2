"""Two blocks in each other's place, or several the other way round: do blocks commute?"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bertkernels.analysis import changes, orders
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.jobs import Trial
from bertkernels.errors import InputError

_SETS = ("all", "adjacent", "mirrored", "reversals")


@dataclass
class SwapArguments:
    """Which blocks change places."""

    pairs: list[str] = field(
        default_factory=lambda: ["all"],
        metadata={
            "help": "all pairs, adjacent ones, mirrored ones (first and last, second and last but one, …), reversals "
            "of --reversed_blocks consecutive blocks, or pairs such as 0,5; several of these."
        },
    )
    reversed_blocks: int = field(default=3, metadata={"help": "How many blocks a reversal turns round."})


class Swap(ModelExperiment):
    """Each order once, although several sets may have it."""

    name = "swap"
    options: SwapArguments

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        blocks = len(self.subject.layered.blocks)
        found = [order for text in self.options.pairs for order in self._orders(text, blocks)]
        return [_trial(order) for order in dict.fromkeys(found)]

    def _orders(self, text: str, blocks: int) -> list[orders.Order]:
        samplers = {
            "all": orders.all_swaps,
            "adjacent": orders.adjacent_swaps,
            "mirrored": orders.mirrored_swaps,
            "reversals": lambda blocks: orders.reversals(blocks, self.options.reversed_blocks),
        }
        if text in samplers:
            return samplers[text](blocks)
        try:
            one, other = map(int, text.split(","))
        except ValueError as error:
            raise InputError(f"--pairs are {', '.join(_SETS)}, or like 0,5, not {text!r}") from error
        return [orders.swapped(blocks, one, other)]


def _trial(order: orders.Order) -> Trial:
    moved = [position for position, block in enumerate(order) if block != position]
    name = f"swap {moved[0]} {moved[-1]}" if len(moved) == 2 else f"order {','.join(map(str, order))}"
    labels = {"blocks": moved, "distance": moved[-1] - moved[0], "order": list(order)}
    return Trial(name, labels | {"fixed_points": orders.fixed_points(order)}, (changes.order(order),))
