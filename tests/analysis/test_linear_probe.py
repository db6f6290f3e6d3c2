"""The closed-form probe: exact maps, scikit-learn, streams, ridges."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score

from bertkernels.analysis.linear_probe import RIDGES, choose_ridge, fit_linear, moments_of


def pairs(rows: int, seed: int, noise: float = 0.0, width: int = 12, target: int = 7, far: float = 100.0):
    """x far from zero and of correlated features, y a linear map of it and a sine of it."""
    shared = torch.Generator().manual_seed(0)
    mixing, weight = (torch.randn(width, n, generator=shared, dtype=torch.float64) for n in (width, target))
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) @ mixing + far
    return x, x @ weight - 3 + noise * torch.sin(3 * x[:, :target])


def cut(x: torch.Tensor, y: torch.Tensor, *sizes: int):
    return list(zip(x.split(list(sizes)), y.split(list(sizes)), strict=True))


def test_recovers_an_exactly_linear_map():
    probe = fit_linear(moments_of([pairs(200, 1)]))
    scores = probe.score([pairs(100, 2)])
    assert scores.r2 > 0.999999 and scores.relative_error < 1e-6
    assert scores.cosine == pytest.approx(1, abs=1e-9)
    assert scores.baseline_r2 <= 0 < scores.baseline_relative_error
    assert scores.tokens == 100


def test_recovers_it_where_features_depend_on_each_other():
    """As after a layer norm: the features lie in a plane."""
    x, _ = pairs(200, 1, far=0)
    x = torch.nn.functional.layer_norm(x, x.shape[1:])
    weight = torch.randn(x.shape[1], 5, dtype=torch.float64)
    for ridge in (0, 1e-8):
        probe = fit_linear(moments_of([(x[:150], x[:150] @ weight)]), ridge)
        assert probe.score([(x[150:], x[150:] @ weight)]).r2 > 0.999999


@pytest.mark.parametrize("ridge", [0, 1e-3, 0.5])
def test_agrees_with_scikit_learn(ridge):
    x, y = pairs(300, 1, noise=4)
    test_x, test_y = pairs(80, 2, noise=4)
    moments = moments_of(cut(x, y, 100, 1, 199))
    probe = fit_linear(moments, ridge)
    alpha = ridge * float(np.trace(moments.xx)) / x.shape[1]
    theirs = (Ridge(alpha=alpha) if alpha else LinearRegression()).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(probe.weight.T, theirs.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(probe.bias, theirs.intercept_, rtol=1e-6)
    scores = probe.score(cut(test_x, test_y, 30, 50))
    predicted = theirs.predict(test_x.numpy())
    assert 0.1 < scores.r2 < 0.999
    assert scores.r2 == pytest.approx(r2_score(test_y, predicted, multioutput="variance_weighted"), abs=1e-9)
    cosines = (test_y.numpy() * predicted).sum(1) / np.linalg.norm(test_y, axis=1) / np.linalg.norm(predicted, axis=1)
    assert scores.cosine == pytest.approx(cosines.mean(), abs=1e-9)
    error = np.linalg.norm(test_y.numpy() - predicted) / np.linalg.norm(test_y)
    assert scores.relative_error == pytest.approx(error, abs=1e-9)


def test_streaming_equals_in_memory():
    x, y = pairs(257, 3, noise=1, far=1e4)
    whole, streamed = moments_of([(x, y)]), moments_of(cut(x, y, 1, 128, 0, 3, 125))
    for name in ("count", "mean_x", "mean_y", "xx", "xy", "y_squares"):
        torch.testing.assert_close(getattr(streamed, name), getattr(whole, name), rtol=1e-9, atol=1e-6)
    ours, theirs = fit_linear(streamed), fit_linear(whole)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-8)


def test_scores_are_the_same_however_the_stream_is_cut():
    probe = fit_linear(moments_of([pairs(257, 3, noise=1)]))
    x, y = pairs(64, 4, noise=1)
    one, many = probe.score([(x, y)]).as_dict(), probe.score(cut(x, y, 5, 0, 1, 58)).as_dict()
    assert many == pytest.approx(one, rel=1e-9)


def test_the_baseline_is_the_mean_of_what_was_seen():
    x, y = pairs(50, 5, noise=1)
    scores = fit_linear(moments_of([(torch.ones_like(x), y)])).score([(x, y)])
    assert scores.r2 == pytest.approx(0, abs=1e-12) == scores.baseline_r2
    assert scores.cosine == pytest.approx(scores.baseline_cosine)


def test_the_ridge_is_chosen_by_rows_that_were_not_fitted():
    x, y = pairs(20, 6, far=0)
    y = y + 30 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    held_out = pairs(500, 7, far=0)
    moments, validation = moments_of([(x, y)]), moments_of([held_out])
    scores = {ridge: fit_linear(moments, ridge).score([held_out]).r2 for ridge in RIDGES}
    chosen = choose_ridge(moments, validation)
    assert chosen == max(scores, key=scores.get) != RIDGES[0]
    assert choose_ridge(moments_of([pairs(200, 6)]), moments_of([pairs(200, 7)])) == RIDGES[0]


def test_as_a_module():
    x, y = pairs(100, 8)
    probe = fit_linear(moments_of([(x, y)]))
    module = probe.linear(x.float())
    torch.testing.assert_close(module(x.float()), probe(x).float(), rtol=1e-4, atol=1e-2)


def test_bad_input():
    x, y = pairs(10, 9)
    with pytest.raises(ValueError, match="without tokens"):
        fit_linear(moments_of([]))
    with pytest.raises(ValueError, match="ridge"):
        fit_linear(moments_of([(x, y)]), -1)
    with pytest.raises(ValueError, match=r"expected x \[N, Dx\]"):
        moments_of([(x, y[:4])])
    with pytest.raises(ValueError, match="widths"):
        moments_of([(x, y), (x[:, :3], y)])
    with pytest.raises(ValueError, match="without tokens"):
        fit_linear(moments_of([(x, y)])).score([])
