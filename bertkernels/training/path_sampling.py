"""Which path of a supernet a training step takes: a function of seed and step alone.

So all processes of a run take the same path in a step, and a resumed run those that an unbroken one would have taken.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bertkernels.models.supernet import Path


class PathSampler(Protocol):
    """Gives the path of each optimizer step, counted from 0."""

    def path(self, step: int) -> Path: ...


class UniformPaths:
    """In each slot any kind, as likely each, whatever the other slots and steps have.

    Source: single-path one-shot search (Guo et al. 2020, §3.2).
    """

    def __init__(self, kinds: Sequence[str], slots: int, seed: int) -> None:
        self._kinds, self._slots, self._seed = tuple(kinds), slots, seed

    def path(self, step: int) -> Path:
        drawn = np.random.default_rng((self._seed, step)).integers(len(self._kinds), size=self._slots)
        return tuple(self._kinds[index] for index in drawn)


class BalancedPaths:
    """In as many steps as there are kinds every slot has each of them once, in a random order of its own.

    So the kinds of a slot are never more than one step apart. FairNAS (Chu et al. 2021) asks for the same and adds the
    gradients of such a round up; here each path is a step, as in `UniformPaths`.
    """

    def __init__(self, kinds: Sequence[str], slots: int, seed: int) -> None:
        self._kinds, self._slots, self._seed = tuple(kinds), slots, seed

    def path(self, step: int) -> Path:
        rounds, place = divmod(step, len(self._kinds))
        orders = np.tile(np.arange(len(self._kinds)), (self._slots, 1))
        orders = np.random.default_rng((self._seed, rounds)).permuted(orders, axis=1)  # [slots, kinds]
        return tuple(self._kinds[index] for index in orders[:, place])


PATH_SAMPLERS = {"uniform": UniformPaths, "balanced": BalancedPaths}
