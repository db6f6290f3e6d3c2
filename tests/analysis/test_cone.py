"""Cone size against all pairs one by one."""

import math

import numpy as np
import pytest
import torch

from bertkernels.analysis.cone import Cone, normalized_linearity


@pytest.mark.parametrize("far", [0.0, 5.0])
def test_is_the_mean_cosine_of_all_pairs(far):
    x = torch.randn(40, 9, generator=torch.Generator().manual_seed(0)) + far
    x[7] = 0
    cone = Cone()
    for part in x.split([3, 37]):
        cone.add(part)
    lengths = np.linalg.norm(x, axis=1)
    lengths[7] = 1
    cosines = (x.numpy() @ x.numpy().T) / np.outer(lengths, lengths)
    assert cone.size == pytest.approx(cosines[~np.eye(40, dtype=bool)].mean(), abs=1e-6)
    assert cone.count == 40


def test_extremes():
    cone = Cone()
    assert math.isnan(cone.size)
    cone.add(torch.ones(1, 3))
    assert math.isnan(cone.size)
    cone.add(2 * torch.ones(4, 3))
    assert cone.size == pytest.approx(1)
    opposite = Cone()
    opposite.add(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]))
    assert opposite.size == pytest.approx(-1)


def test_normalized_linearity():
    assert normalized_linearity(1.0, 0.7) == 1
    assert normalized_linearity(0.7, 0.7) == 0
    assert math.isnan(normalized_linearity(1.0, 1.0))
