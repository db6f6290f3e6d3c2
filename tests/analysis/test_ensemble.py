"""Votes."""

import numpy as np

from bertkernels.analysis.ensemble import vote


def test_most_votes_win():
    """Two that are hardly sure outvote one that is."""
    models = [np.array([[0.51, 0.49]]), np.array([[0.51, 0.49]]), np.array([[0.01, 0.99]])]
    assert vote(models).tolist() == [0]


def test_ties_go_to_the_highest_sum():
    """Between labels with most votes only, and to either side; then to the lowest label."""
    one = np.array([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.5, 0.1, 0.4], [0.7, 0.3, 0.0]])
    other = np.array([[0.1, 0.9, 0.0], [0.4, 0.6, 0.0], [0.1, 0.45, 0.45], [0.3, 0.7, 0.0]])
    assert vote([one, other]).tolist() == [1, 0, 0, 0]
    third = np.array([[0.3, 0.3, 0.4]])
    assert vote([one[2:3], other[2:3], third, np.array([[0.1, 0.5, 0.4]])]).tolist() == [1]
