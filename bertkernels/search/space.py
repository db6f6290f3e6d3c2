"""What samplers ask of a space of candidates, and claims of a sampler."""

from collections.abc import Sequence, Set
from typing import Protocol

import numpy as np

from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import Key

RANDOM = "random"


class Space(Protocol):
    """Candidates within limits, as paths of one part for each place."""

    def allows(self, path: Path) -> bool:
        """Whether a path keeps within the limits."""
        ...

    def key(self, path: Path) -> Key:
        """What is the same for paths that are the same candidate."""
        ...

    def exhausted(self, taken: Set[Key]) -> bool:
        """Whether these are all candidates within the limits."""
        ...

    def random(self, rng: np.random.Generator) -> Path:
        """A candidate within the limits."""
        ...

    def mutation(self, path: Path, probability: float, rng: np.random.Generator) -> Path:
        """The path with each part changed with this probability; it need not keep within the limits."""
        ...

    def nearest(self, path: Path, rng: np.random.Generator) -> Path:
        """The path with few parts changed so that it keeps within the limits."""
        ...


class Sampler(Protocol):
    """Proposes candidates."""

    def propose(self, number: int, taken: Set[Key], scored: Sequence[tuple[Path, float]]) -> tuple[Path, str] | None:
        """The next candidate and how it came about; None where all are taken.

        Args:
            number: of candidates proposed before.
            taken: keys of those that need no further evaluation.
            scored: candidates of earlier generations with their fitness, the more the better.
        """
        ...


def random_candidate(space: Space, taken: Set[Key], rng: np.random.Generator) -> Path | None:
    """A random one that is not taken; None where all are."""
    while not space.exhausted(taken):
        path = space.random(rng)
        if space.key(path) not in taken:
            return path
    return None
