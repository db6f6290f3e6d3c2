"""Probes of a whole model: padding never counts, and mixing is told from non-linearity."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from bertkernels.analysis.site_linearity import site_linearity
from bertkernels.analysis.token_pairs import token_pairs
from bertkernels.errors import InputError
from tests.analysis.stand_in import StandIn, batches

PLACES = [(0, "mixing"), (1, "mlp")]


@pytest.mark.parametrize("at_padding", [float("nan"), 1e30])
def test_real_tokens_alone(at_padding):
    layered = StandIn()
    layered.model.at_padding = at_padding
    for batch, found in zip(batches(3), token_pairs(layered, batches(3), PLACES), strict=True):
        real = batch["attention_mask"].bool()
        for place in PLACES:
            pairs = found[place]
            x, y = layered.model.seen[place]
            assert pairs.lengths.tolist() == real.sum(1).tolist()
            assert torch.equal(pairs.x, x[real]) and torch.equal(pairs.y, y[real])
            assert len(pairs.x) == real.sum() and pairs.x.isfinite().all() and pairs.x.abs().max() < 1e3
            assert not pairs.y.requires_grad


def test_every_token_is_real_without_a_mask():
    layered = StandIn()
    forward = layered.model.forward
    layered.model.forward = lambda input_ids: forward(input_ids, torch.ones_like(input_ids))
    batch = {"input_ids": batches(1)[0]["input_ids"]}
    found = next(token_pairs(layered, [batch], [(0, "mlp")]))
    assert found[0, "mlp"].lengths.tolist() == [9] * 4


def test_dropout_is_off_and_modes_come_back():
    layered = StandIn()
    layered.model.train()
    layered.model.mlp.eval()
    first, second = (next(token_pairs(layered, batches(1), PLACES)) for _ in range(2))
    assert torch.equal(first[0, "mixing"].y, second[0, "mixing"].y)
    assert layered.model.dropout.training and not layered.model.mlp[0].training


def test_a_window_is_linear_where_the_part_is():
    layered = StandIn()
    scores = site_linearity(layered, batches(30), batches(6, seed=1), [*PLACES, (1, "encoder")])
    mixing, mlp, encoder = scores.values()
    assert mixing.window.scores.r2 > 0.99999 > 0.9 > mixing.token.scores.r2
    assert mlp.window is None and mlp.token.scores.r2 < 0.9999
    assert encoder.token.scores.r2 < encoder.window.scores.r2 < 0.9999
    held_out = sum(int(batch["attention_mask"].sum()) for batch in batches(6, seed=1))
    assert mlp.token.scores.tokens == held_out


def test_agrees_with_scikit_learn_on_padded_batches():
    layered = StandIn()
    layered.model.double()
    found = site_linearity(layered, batches(12), batches(3, seed=1), [(1, "mlp")])[1, "mlp"].token
    (train_x, train_y), (test_x, test_y) = (_real(layered, batches(12)), _real(layered, batches(3, seed=1)))
    alpha = found.ridge * ((train_x - train_x.mean(0)) ** 2).sum() / train_x.shape[1]
    theirs = Ridge(alpha=alpha).fit(train_x, train_y)
    np.testing.assert_allclose(found.probe.weight.T, theirs.coef_, rtol=1e-6, atol=1e-9)
    r2 = r2_score(test_y, theirs.predict(test_x), multioutput="variance_weighted")
    assert found.scores.r2 == pytest.approx(r2, abs=1e-9) and r2 < 0.9999


def _real(layered: StandIn, padded: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """x and y of block 1's mlp, of every sequence by itself and without padding."""
    layered.model.eval()
    pairs = []
    for batch in padded:
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            ids = ids[None, : int(mask.sum())]
            with torch.no_grad():
                layered.model(ids, torch.ones_like(ids))
            pairs.append(layered.model.seen[1, "mlp"])
    return tuple(torch.cat(parts, 1)[0].numpy() for parts in zip(*pairs, strict=True))


def test_too_little_data():
    layered = StandIn()
    with pytest.raises(InputError, match="two training batches"):
        site_linearity(layered, batches(1), batches(1), PLACES)
    with pytest.raises(InputError, match="held-out"):
        site_linearity(layered, batches(2), [], PLACES)
