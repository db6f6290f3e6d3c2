"""The next candidate to try, out of the part of the space that has been good: EfficientBERT's sampler."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bertkernels.errors import InputError
from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import Key
from bertkernels.search.partition import Partition, check_lightgbm, first_promising
from bertkernels.search.space import RANDOM, Space, random_candidate

PROMISING = "promising"


class FeatureSpace(Space, Protocol):
    """A space whose candidates a classifier can tell apart."""

    def features(self, path: Path) -> Sequence[int]:
        """Numbers that describe a candidate, as many for each."""
        ...


@dataclass(frozen=True)
class PartitionSettings:
    """When a partition is learned, and how long it is asked.

    The defaults are EfficientBERT's.

    Attributes:
        initial_samples: random ones before the first partition.
        refit_interval: samples after which it is learned anew.
        rejection_tries: candidates drawn at most for one that is promising; then any is taken.
    """

    initial_samples: int = 80
    refit_interval: int = 10
    rejection_tries: int = 20_000

    def __post_init__(self) -> None:
        for name in ("initial_samples", "refit_interval", "rejection_tries"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, not {getattr(self, name)}")


class SpacePartition:
    """Proposes candidates of a space, each a function of the seed, of its number and of what is known by then.

    Raises InputError where LightGBM is missing.
    """

    def __init__(self, space: FeatureSpace, settings: PartitionSettings, seed: int) -> None:
        check_lightgbm()
        self._space, self._settings, self._seed = space, settings, seed
        self._learned: tuple[int, Partition] | None = None  # from so many samples

    def propose(self, number: int, taken: Set[Key], scored: Sequence[tuple[Path, float]]) -> tuple[Path, str] | None:
        """As `space.Sampler`. Random until `initial_samples` candidates were proposed."""
        rng = np.random.default_rng((self._seed, number))

        def draw() -> Path | None:
            return random_candidate(self._space, taken, rng)

        if number >= self._settings.initial_samples and scored:
            partition = self._partition(scored)
            path = first_promising(partition, draw, self._space.features, self._settings.rejection_tries)
            if path is not None:
                return path, PROMISING
        path = draw()
        return None if path is None else (path, RANDOM)

    def _partition(self, scored: Sequence[tuple[Path, float]]) -> Partition:
        if self._learned is None or self._learned[0] != len(scored):
            features = np.array([self._space.features(path) for path, _ in scored], dtype=np.float64)
            fitness = np.array([value for _, value in scored])
            self._learned = len(scored), Partition(features, fitness, self._seed)
        return self._learned[1]


class PartitionSampler(BaseSampler):
    """The same for any Optuna study of one objective: `optuna.create_study(sampler=PartitionSampler())`.

    Parameters that not every trial has are sampled at random.

    Args:
        settings: when a partition is learned, and how long it is asked.
        seed: of everything; None: another each time.

    Raises:
        InputError: LightGBM is missing, or the study has several objectives.
    """

    def __init__(self, settings: PartitionSettings | None = None, seed: int | None = None) -> None:
        check_lightgbm()
        self._settings = settings or PartitionSettings()
        self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._random = RandomSampler(self._seed)
        self._search_space = IntersectionSearchSpace()
        self._learned: tuple[int, Partition] | None = None

    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if len(study.directions) > 1:
            raise InputError(f"a partition is of one objective, the study has {len(study.directions)}")
        space = self._search_space.calculate(study)
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = [other for other in study.get_trials(False, (TrialState.COMPLETE,)) if np.isfinite(other.value)]
        count = len(trials) // self._settings.refit_interval * self._settings.refit_interval
        if len(trials) < self._settings.initial_samples or not count or not search_space:
            return {}

        def draw() -> dict[str, Any]:
            return {name: self.sample_independent(study, trial, name, of) for name, of in search_space.items()}

        def features(values: dict[str, Any]) -> list[float]:
            return [_number(values[name], of) for name, of in search_space.items()]

        if self._learned is None or self._learned[0] != count:
            sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
            rows = np.array([features(other.params) for other in trials[:count]])
            fitness = sign * np.array([other.value for other in trials[:count]])
            self._learned = count, Partition(rows, fitness, self._seed)
        return first_promising(self._learned[1], draw, features, self._settings.rejection_tries) or {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _number(value: Any, distribution: BaseDistribution) -> float:
    """Of a category its place, of a number itself; of a number on a logarithmic scale its logarithm."""
    inner = distribution.to_internal_repr(value)
    if not isinstance(distribution, CategoricalDistribution) and distribution.log:
        return float(np.log(inner))
    return float(inner)
