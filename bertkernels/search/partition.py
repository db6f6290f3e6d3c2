"""A learned partition of a search space: classifiers that halve samples at their median, of which the better is kept.

Source: the released program of EfficientBERT (Dong et al. 2021, Findings of EMNLP), after LaNAS (Wang et al. 2019). Its
search goes down to the better child at every node, so only the nodes on that way are learned here.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from bertkernels.errors import InputError

_DEPTHS = (400, 800, 1600, 3200)  # samples from which the tree is one level deeper
_TRIES = 10  # settings of a classifier, of which the best is taken
_ROUNDS = 100  # boosted trees at most
_FEWEST = 10  # samples that are halved
_AT_ONCE = 16  # candidates judged together

Candidate = TypeVar("Candidate")


def check_lightgbm() -> None:
    """Raises InputError where LightGBM is missing."""
    try:
        import lightgbm  # noqa: F401
    except ImportError as error:
        raise InputError(
            "the partition sampler needs LightGBM: pip install 'bertkernels[search]', or choose --sampler genetic"
        ) from error


class Partition:
    """Halves samples at their median fitness, then the better half, and so on; a classifier learns each halving.

    One level for up to 400 samples, one more each from 400, 800, 1600 and 3200. A classifier that is wrong on half of
    what it has not seen, or worse, ends the descent.

    Args:
        features: [N, F], what is known of a sample. fitness: [N], the more the better.
        seed: of the rows to check classifiers with, and of their settings.
    """

    def __init__(self, features: np.ndarray, fitness: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._classifiers: list = []
        for _ in range(int(np.searchsorted(_DEPTHS, len(fitness), side="right")) + 1):
            better = fitness >= np.median(fitness)
            if better.all():  # the median is the least: ties
                better = fitness > np.median(fitness)
            if len(fitness) < _FEWEST or not better.any():
                return
            classifier = _classifier(features, better, rng)
            if classifier is None:
                return
            self._classifiers.append(classifier)
            features, fitness = features[better], fitness[better]

    @property
    def depth(self) -> int:
        """How often samples are halved."""
        return len(self._classifiers)

    def promising(self, features: np.ndarray) -> np.ndarray:
        """Which of [M, F] every classifier takes for the better half: bool [M]."""
        found = np.ones(len(features), dtype=bool)
        for classifier in self._classifiers:
            found &= np.asarray(classifier.predict(features)) >= 0.5
        return found


def first_promising(
    partition: Partition,
    draw: Callable[[], Candidate | None],
    features: Callable[[Candidate], Sequence[float]],
    tries: int,
) -> Candidate | None:
    """The first candidate drawn that is promising, of so many; None where none is, or `draw` has no more."""
    left = tries
    while left > 0:
        drawn = [candidate for _ in range(min(left, _AT_ONCE)) if (candidate := draw()) is not None]
        left -= _AT_ONCE
        if not drawn:
            return None
        good = partition.promising(np.array([features(candidate) for candidate in drawn], dtype=np.float64))
        if good.any():
            return drawn[int(good.argmax())]
    return None


def _classifier(features: np.ndarray, better: np.ndarray, rng: np.random.Generator):
    """The best of some settings by its error on a fifth of the rows; None where that is a half or more."""
    import lightgbm

    best, least = None, 0.5
    for _ in range(_TRIES):
        held_out = np.zeros(len(better), dtype=bool)
        held_out[rng.permutation(len(better))[: max(1, len(better) // 5)]] = True
        if len(set(better[~held_out])) < 2:
            continue
        settings = {
            "objective": "binary",
            "num_leaves": int(rng.integers(4, 32)),
            "learning_rate": float(10 ** rng.uniform(-2, -0.5)),
            "min_data_in_leaf": int(rng.integers(1, max(2, len(better) // 10))),
            "lambda_l2": float(10 ** rng.uniform(-3, 1)),
            "feature_fraction": float(rng.uniform(0.5, 1)),
            "seed": int(rng.integers(2**31)),
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        training = lightgbm.Dataset(features[~held_out], better[~held_out].astype(np.float64))
        checking = lightgbm.Dataset(features[held_out], better[held_out].astype(np.float64), reference=training)
        stop = lightgbm.early_stopping(_ROUNDS // 5, verbose=False)
        classifier = lightgbm.train(settings, training, _ROUNDS, valid_sets=[checking], callbacks=[stop])
        error = float(((classifier.predict(features[held_out]) >= 0.5) != better[held_out]).mean())
        if error < least:
            best, least = classifier, error
    return best
