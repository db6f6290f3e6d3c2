"""The next plan to try: random ones first, then children of the best so far."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from bertkernels.errors import InputError
from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import Key
from bertkernels.search.space import RANDOM, Space, random_candidate

MUTATION, CROSSOVER = "mutation", "crossover"
_TRIES = 50  # children of one sort, before chance alone takes over


@dataclass(frozen=True)
class Genetics:
    """Settings of the evolution.

    The defaults are single-path one-shot search's (Guo et al. 2020); LV-BERT's paper does not say which it used.

    Attributes:
        population: plans in a generation.
        parents: how many of the best so far have children.
        mutation_share: of a generation's children that are mutations of one parent; the others are of two.
        mutation_probability: of a slot to get another kind.
    """

    population: int = 50
    parents: int = 10
    mutation_share: float = 0.5
    mutation_probability: float = 0.1

    def __post_init__(self) -> None:
        for name in ("population", "parents"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.mutation_share <= 1:
            raise InputError(f"--mutation_share must be from 0 to 1, not {self.mutation_share}")
        if not 0 < self.mutation_probability <= 1:
            raise InputError(f"--mutation_probability must be above 0 and at most 1, not {self.mutation_probability}")


class GeneticSampler:
    """Proposes plans, each a function of the seed, of its number and of what is known by then."""

    def __init__(self, space: Space, genetics: Genetics, seed: int) -> None:
        self._space, self._genetics, self._seed = space, genetics, seed

    def propose(self, number: int, taken: Set[Key], scored: Sequence[tuple[Path, float]]) -> tuple[Path, str] | None:
        """The next plan and how it came about (`RANDOM`, `MUTATION`, `CROSSOVER`); None where all are taken.

        The first generation is random. A later one begins with mutations and ends with crossovers of those `parents`
        that are the best of what is scored when it is proposed. A child that does not keep within the limits is changed
        in as few slots as it takes; one that is taken already is drawn anew.

        Args:
            number: of plans proposed before, from which the generation follows.
            taken: those that need no further evaluation.
            scored: plans with their fitness, the more the better.
        """
        rng = np.random.default_rng((self._seed, number))
        generation, place = divmod(number, self._genetics.population)
        best = sorted(scored, key=lambda entry: (-entry[1], entry[0]))[: self._genetics.parents]
        parents = [path for path, _ in best]
        if generation and parents:
            mutates = place < self._genetics.mutation_share * self._genetics.population or len(parents) < 2
            for _ in range(_TRIES):
                child = self._mutation(parents, rng) if mutates else self._crossover(parents, rng)
                child = child if self._space.allows(child) else self._space.nearest(child, rng)
                if self._space.key(child) not in taken:
                    return child, MUTATION if mutates else CROSSOVER
        path = random_candidate(self._space, taken, rng)
        return None if path is None else (path, RANDOM)

    def _mutation(self, parents: Sequence[Path], rng: np.random.Generator) -> Path:
        parent = parents[rng.integers(len(parents))]
        return self._space.mutation(parent, self._genetics.mutation_probability, rng)

    def _crossover(self, parents: Sequence[Path], rng: np.random.Generator) -> Path:
        """Each slot as in one of two parents."""
        first, second = (parents[index] for index in rng.choice(len(parents), size=2, replace=False))
        return tuple(b if other else a for a, b, other in zip(first, second, rng.random(len(first)) < 0.5, strict=True))
