"""Rank correlation with its intervals."""

import numpy as np
import pytest

from bertkernels.search.rank_correlation import rank_correlation


def test_rank_correlation_is_the_textbooks():
    inherited = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    found = rank_correlation(inherited, np.array([[1.0], [3], [2], [5], [4]]))
    assert found.spearman == pytest.approx(1 - 6 * 4 / (5 * 24)) and found.kendall == pytest.approx(0.6)
    low, high = found.spearman_interval
    assert -1 <= low < found.spearman < high <= 1
    same = rank_correlation(inherited, np.array([[1.0, 1], [2, 2], [3, 3], [4, 4], [5, 5]]))
    assert [same.spearman, same.kendall, *same.spearman_interval] == pytest.approx([1, 1, 1, 1])
    noisy = rank_correlation(inherited, np.array([[1.0, 9], [2, 8], [3, 7], [4, 6], [5, 5.5]]))
    assert noisy.spearman_interval[0] < -0.5 and noisy.spearman_interval[1] > 0.5, "seeds that disagree are seen"
    assert rank_correlation(inherited[:2], np.ones((2, 3))).spearman is None
    assert rank_correlation(np.ones(5), np.arange(5.0)[:, None]).spearman is None


def test_the_interval_covers_the_truth():
    """Of plans whose two values are correlated by 0.8, nearly always."""
    rng = np.random.default_rng(0)
    truth, covered, widths = 0.786, 0, []  # Spearman's of a normal pair of Pearson's 0.8
    for _ in range(6):
        x = rng.normal(size=25)
        y = 0.8 * x + 0.6 * rng.normal(size=25)
        low, high = rank_correlation(x, y[:, None]).spearman_interval
        covered += low <= truth <= high
        widths.append(high - low)
    assert covered >= 5 and np.mean(widths) < 0.8
