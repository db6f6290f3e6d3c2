"""Do plans stand in the same order by inherited weights and trained alone?"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

_RESAMPLES = 1000


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ and Kendall's τ-b with confidence intervals of 95%; None where there are too few plans, or where
    one side has all of them alike."""

    spearman: float | None
    spearman_interval: tuple[float, float] | None
    kendall: float | None
    kendall_interval: tuple[float, float] | None


def rank_correlation(inherited: np.ndarray, alone: np.ndarray, seed: int = 0) -> RankCorrelation:
    """Of inherited fitness [plans] with the mean over seeds of stand-alone fitness [plans, seeds].

    The intervals are bootstrapped: plans are drawn with replacement, and for each of them its seeds too, so that they
    are about other plans of this sort and about other seeds.
    """
    if len(inherited) < 3:
        return RankCorrelation(None, None, None, None)
    rng = np.random.default_rng(seed)
    plans, seeds = alone.shape
    drawn = []
    for _ in range(_RESAMPLES):
        rows = rng.integers(plans, size=plans)
        columns = rng.integers(seeds, size=(plans, seeds))
        drawn.append(_both(inherited[rows], alone[rows[:, None], columns].mean(axis=1)))
    resampled = np.array(drawn)  # [resamples, 2]
    spearman, kendall = _both(inherited, alone.mean(axis=1))
    return RankCorrelation(_number(spearman), _interval(resampled[:, 0]), _number(kendall), _interval(resampled[:, 1]))


def _both(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """NaN where all values of a side are alike."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return stats.spearmanr(one, other).statistic, stats.kendalltau(one, other).statistic


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    values = values[~np.isnan(values)]
    return tuple(float(bound) for bound in np.quantile(values, (0.025, 0.975))) if len(values) else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
