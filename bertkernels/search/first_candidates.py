"""Candidates that a search begins with, whatever its sampler."""

from collections.abc import Sequence, Set

import numpy as np

from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import Key
from bertkernels.search.space import RANDOM, Sampler, Space, random_candidate

GIVEN = "given"


class FirstCandidates:
    """Proposes these, then what the sampler does."""

    def __init__(self, space: Space, first: Sequence[Path], sampler: Sampler) -> None:
        self._space, self._first, self._sampler = space, tuple(first), sampler

    def propose(self, number: int, taken: Set[Key], scored: Sequence[tuple[Path, float]]) -> tuple[Path, str] | None:
        """As `space.Sampler`."""
        for path in self._first:
            if self._space.key(path) not in taken:
                return path, GIVEN
        return self._sampler.propose(number, taken, scored)


class RandomSampler:
    """Proposes random candidates, each a function of the seed and of its number."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def propose(self, number: int, taken: Set[Key], scored: Sequence[tuple[Path, float]]) -> tuple[Path, str] | None:
        """As `space.Sampler`."""
        path = random_candidate(self._space, taken, np.random.default_rng((self._seed, number)))
        return None if path is None else (path, RANDOM)
