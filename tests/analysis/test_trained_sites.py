"""Trained probes of a whole model, from the passes that all of them share."""

import pytest

from bertkernels.analysis.site_linearity import site_linearity
from bertkernels.analysis.trained_sites import trained_sites
from bertkernels.errors import InputError
from tests.analysis.stand_in import StandIn, batches

PLACES = [(0, "mixing"), (1, "mlp")]


def test_learn_from_real_tokens_and_stay_below_the_closed_form():
    layered = StandIn()
    train, held_out = batches(20), batches(6, seed=1)
    trained = trained_sites(layered, train, held_out, PLACES, loss="mse", epochs=30, learning_rate=1e-2)
    exact = site_linearity(layered, train, held_out, PLACES)
    for place in PLACES:
        scores, best = trained[place].scores, exact[place].token.scores
        assert best.r2 - 0.1 < scores.r2 < best.r2 + 0.02
        assert scores.tokens == best.tokens and scores.cone_size == pytest.approx(best.cone_size)
        assert all(weight.isfinite().all() for weight in trained[place].probe.module.parameters())


def test_each_place_learns_as_if_alone():
    layered = StandIn()
    both = trained_sites(layered, batches(3), batches(2, seed=1), PLACES, "mlp")
    alone = trained_sites(layered, batches(3), batches(2, seed=1), PLACES[1:], "mlp")
    assert both[1, "mlp"].scores == alone[1, "mlp"].scores


def test_bad_input():
    layered = StandIn()
    with pytest.raises(InputError, match="training and held-out tokens"):
        trained_sites(layered, [], batches(1), PLACES)
    with pytest.raises(InputError, match="training and held-out tokens"):
        trained_sites(layered, batches(1), [], PLACES)
    with pytest.raises(ValueError, match="got an iterator"):
        trained_sites(layered, iter(batches(2)), batches(1), PLACES)
    with pytest.raises(ValueError, match="loss must be"):
        trained_sites(layered, batches(1), batches(1), PLACES, loss="l1")
