"""The plans that keep within limits: how many there are, random ones, and the nearest to one that does not."""

import math
from collections import Counter
from collections.abc import Sequence, Set
from itertools import combinations

import numpy as np

from bertkernels.errors import InputError
from bertkernels.models.supernet import Path
from bertkernels.search.limits import Figures, KindFigures, Limits

_MOST_COMPOSITIONS = 1_000_000
_FLAGS = {"max_parameters": "parameters", "max_flops": "flops", "max_latency_ms": "latency_ms"}


class FeasiblePlans:
    """All orders of the kinds over the slots within the limits.

    What a plan costs depends on how many sub-layers of each kind it has and not on their order, so limits are about
    these numbers: all that there can be are listed.

    Raises:
        InputError: no plan keeps within the limits; it says what the nearest one costs.
    """

    def __init__(self, kinds: Sequence[str], slots: int, limits: Limits, figures: KindFigures) -> None:
        self.kinds, self.slots, self.limits, self.figures = tuple(kinds), slots, limits, figures
        everything = _compositions(len(self.kinds), slots)  # [N, kinds]
        within = self._within(everything)
        allowed = np.logical_and.reduce(list(within.values())) if within else np.ones(len(everything), dtype=bool)
        if not allowed.any():
            raise InputError(self._nearest(everything, within))
        self._counts = everything[allowed]
        orders = [_orders(row) for row in self._counts.tolist()]
        self.size = sum(orders)
        self._shares = np.array([number / self.size for number in orders])

    def allows(self, path: Path) -> bool:
        """Whether a path keeps within the limits."""
        return bool((self._counts == self._count(path)).all(axis=1).any())

    def figures_of(self, path: Path) -> Figures:
        """What a path costs."""
        return self.figures.of(Counter(path))

    def random(self, rng: np.random.Generator) -> Path:
        """A plan, any as likely as another."""
        counts = self._counts[rng.choice(len(self._counts), p=self._shares)]
        return tuple(self.kinds[index] for index in rng.permutation(np.repeat(np.arange(len(self.kinds)), counts)))

    def mutation(self, path: Path, probability: float, rng: np.random.Generator) -> Path:
        """The path whose slots have each another kind with this probability; it need not keep within the limits."""
        kinds = list(path)
        for slot in np.flatnonzero(rng.random(len(path)) < probability):
            kinds[slot] = self.kinds[
                (self.kinds.index(path[slot]) + rng.integers(1, len(self.kinds))) % len(self.kinds)
            ]
        return tuple(kinds)

    def key(self, path: Path) -> Path:
        """Plans are the same where their paths are."""
        return path

    def exhausted(self, taken: Set[Path]) -> bool:
        """Whether these are all plans within the limits."""
        return sum(self.allows(path) for path in taken) >= self.size

    def nearest(self, path: Path, rng: np.random.Generator) -> Path:
        """The path with as few slots changed as the limits ask for; which ones is left to chance."""
        have = self._count(path)
        distances = np.abs(self._counts - have).sum(axis=1)
        wanted = self._counts[rng.choice(np.flatnonzero(distances == distances.min()))]
        missing = list(np.repeat(np.arange(len(self.kinds)), np.maximum(wanted - have, 0)))
        rng.shuffle(missing)
        surplus = np.maximum(have - wanted, 0)
        kinds = list(path)
        for slot in rng.permutation(self.slots):
            kind = self.kinds.index(kinds[slot])
            if surplus[kind]:
                surplus[kind] -= 1
                kinds[slot] = self.kinds[missing.pop()]
        return tuple(kinds)

    def _count(self, path: Path) -> np.ndarray:
        found = Counter(path)
        return np.array([found[kind] for kind in self.kinds])

    def _within(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """For each limit, which rows of counts [N, kinds] keep within it: bool [N]."""
        within = {}
        for flag in _FLAGS:
            most = getattr(self.limits, flag)
            if most is not None:
                within[flag] = self._totals(counts, flag) <= most
        for kind, (low, high) in self.limits.counts.items():
            column = counts[:, self.kinds.index(kind)]
            within[f"counts {kind}"] = (column >= low) & (column <= high)
        return within

    def _totals(self, counts: np.ndarray, flag: str) -> np.ndarray:
        name = _FLAGS[flag]
        each = np.array([getattr(self.figures.kinds[kind], name) for kind in self.kinds], dtype=np.float64)
        return counts @ each + getattr(self.figures.rest, name)

    def _nearest(self, counts: np.ndarray, within: dict[str, np.ndarray]) -> str:
        """Says which limit is the one too many, and the nearest figure that the others leave."""
        for flag in (flag for flag in _FLAGS if flag in within):
            others = [rows for name, rows in within.items() if name != flag]
            left = np.logical_and.reduce(others) if others else np.ones(len(counts), dtype=bool)
            if left.any():
                totals = np.where(left, self._totals(counts, flag), np.inf)
                best = int(totals.argmin())
                plan = " ".join(f"{n}*{kind}" for kind, n in zip(self.kinds, counts[best].tolist(), strict=True) if n)
                beside = " that keeps within the other limits" if others else ""
                figure = f"{totals[best]:,.3f}" if flag == "max_latency_ms" else f"{totals[best]:,.0f}"
                limit = getattr(self.limits, flag)
                return f"--{flag} {limit:,}: the nearest plan{beside} has {figure} ({plan}, in any order)"
        least = {kind: low for kind, (low, _) in self.limits.counts.items()}
        most = {kind: self.limits.counts.get(kind, (0, self.slots))[1] for kind in self.kinds}
        if sum(least.values()) > self.slots or sum(most.values()) < self.slots:
            few, many = sum(least.values()), min(self.slots, sum(most.values()))
            number = f"at least {few}" if few > self.slots else f"at most {many}"
            return f"--counts asks for {number} sub-layers: {self.slots} are feasible, the supernet's slots"
        return "the limits contradict each other: no plan keeps within any of them but one; leave one out"


def _compositions(kinds: int, slots: int) -> np.ndarray:
    """All ways to write slots as a sum of so many numbers from 0: int64 [N, kinds]."""
    if math.comb(slots + kinds - 1, kinds - 1) > _MOST_COMPOSITIONS:
        raise InputError(f"{kinds} kinds in {slots} slots are too many to search: there are too many ways to mix them")
    bars = np.array(list(combinations(range(slots + kinds - 1), kinds - 1)), dtype=np.int64)  # [N, kinds - 1]
    bars = bars.reshape(-1, kinds - 1)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, slots + kinds - 1)))
    return np.diff(edges, axis=1) - 1


def _orders(counts: Sequence[int]) -> int:
    """In how many orders so many of each can stand."""
    return math.factorial(sum(counts)) // math.prod(map(math.factorial, counts))
