"""Trained probes learn what their kind can, by the loss that was asked for."""

import pytest
import torch

from bertkernels.analysis.trained_probe import KINDS, LOSSES, TrainedProbe


def stream(map_, rows=256, batches=8, seed=0):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return list(zip(x.chunk(batches), map_(x).chunk(batches), strict=True))


def linear(x):
    return x @ torch.linspace(-1, 1, 48).view(8, 6) + 1


def trained(kind, loss, map_, epochs=40):
    probe = TrainedProbe(8, 6, kind, loss, learning_rate=1e-2)
    losses = probe.fit(stream(map_), epochs)
    return probe, losses


@pytest.mark.parametrize("loss", LOSSES)
def test_linear_learns_a_linear_map(loss):
    probe, losses = trained("linear", loss, linear)
    scores = probe.score(stream(linear, 64, 2, seed=1))
    assert losses[-1] < 0.1 * losses[0]
    assert scores.cosine > 0.99 > scores.baseline_cosine
    assert (scores.r2 > 0.98) == (loss != "cosine")  # which is blind to length


def test_relu_is_never_negative_and_learns_what_is_not():
    probe, _ = trained("relu", "mse", lambda x: linear(x).relu())
    held_out = stream(lambda x: linear(x).relu(), 64, 2, seed=1)
    assert probe(held_out[0][0]).min() >= 0
    assert probe.score(held_out).r2 > 0.9
    assert trained("relu", "mse", linear)[0].score(stream(linear, 64, 2, seed=1)).r2 < 0.9


def test_mlp_learns_what_a_linear_map_cannot():
    def square(x):
        return x[:, :6].square()

    held_out = stream(square, 64, 2, seed=1)
    assert trained("mlp", "mse", square)[0].score(held_out).r2 > 0.6
    assert trained("linear", "mse", square)[0].score(held_out).r2 < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    x, y = stream(linear, 32, 1)[0]
    again = [TrainedProbe(8, 6, kind, dropout=0.0, seed=seed).step(x, y) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


def test_losses():
    y, predicted = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[6.0, 8.0], [2.0, 0.0]])
    assert LOSSES["cosine"](y, predicted) == pytest.approx(0.5)
    assert LOSSES["mse"](y, predicted) == pytest.approx((9 + 16 + 4 + 4) / 4)
    assert LOSSES["l2"](y, predicted) == pytest.approx((5 + 8**0.5) / 2)


def test_bad_input():
    with pytest.raises(ValueError, match="kind must be one of linear, relu, mlp"):
        TrainedProbe(2, 2, "quadratic")
    with pytest.raises(ValueError, match="loss must be one of cosine, mse, l2"):
        TrainedProbe(2, 2, loss="l1")
    with pytest.raises(ValueError, match="got an iterator"):
        TrainedProbe(8, 6).fit(iter(stream(linear)), 2)
    with pytest.raises(ValueError, match="without tokens"):
        TrainedProbe(2, 2).score([])
