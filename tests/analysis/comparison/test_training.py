"""Networks learn, layers change places, probes tell linear layers from others."""

import pytest
import torch

from bertkernels.analysis.comparison.approximate import layer_linearities
from bertkernels.analysis.comparison.networks import build, cnn, mlp
from bertkernels.analysis.comparison.reorder import reordered_accuracies
from bertkernels.analysis.comparison.toy import toy_linearity
from bertkernels.analysis.comparison.train import accuracy, train
from bertkernels.errors import InputError


@pytest.fixture(scope="module")
def trained(stripes):
    torch.manual_seed(0)
    network = mlp(stripes, 4, 24, norm=True, skip=True)
    losses = train(network, stripes, epochs=6, learning_rate=1e-2)
    assert losses[-1] < 0.2 * losses[0]
    return network


def test_accuracy(trained, stripes):
    assert accuracy(trained, stripes) > 0.95
    with torch.no_grad():
        right = (trained(stripes.test_x).argmax(1) == stripes.test_y).float().mean().item()
    assert accuracy(trained, stripes) == pytest.approx(right)


def test_training_is_seeded(stripes):
    def losses(seed):
        torch.manual_seed(0)
        return train(mlp(stripes, 2, 8), stripes, epochs=2, seed=seed)

    assert losses(1) == losses(1) != losses(2)


def test_the_papers_initialisation_does_not_learn(stripes):
    """Deep, without layer norm and with tiny weights: chance, where the fair initialisation learns."""
    found = {}
    for initialisation in ("fair", "paper"):
        network = build("mlp-long", stripes, initialisation)
        train(network, stripes, epochs=2, learning_rate=1e-3)
        found[initialisation] = accuracy(network, stripes)
    assert found["fair"] > 0.9 and found["paper"] < 0.5


def test_orders(trained, stripes):
    before = {name: weight.clone() for name, weight in trained.state_dict().items()}
    orders = [(0, 1, 2), (1, 0, 2), (2, 0, 1)]
    results = list(reordered_accuracies(trained, stripes, orders, epochs=2, learning_rate=1e-3))
    assert [result.order for result in results] == orders
    assert [result.fixed_points for result in results] == [3, 1, 0]
    assert results[0].direct == accuracy(trained, stripes)
    for result, order in zip(results, orders, strict=True):
        assert result.direct == accuracy(trained.reordered(order), stripes)
        assert len(result.after_epoch) == 2 and result.after_epoch[-1] > 0.9
    assert all(torch.equal(before[name], weight) for name, weight in trained.state_dict().items())
    with pytest.raises(InputError, match="each number from 0 to 2 once"):
        list(reordered_accuracies(trained, stripes, [(0, 0, 1)]))


@pytest.mark.parametrize("make", [lambda images: mlp(images, 3, 16), lambda images: cnn(images, 3)])
def test_a_layer_is_linear_where_its_relu_does_nothing(make, stripes):
    torch.manual_seed(0)
    network = make(stripes)
    with torch.no_grad():
        network.layers[1].linear.bias += 100
    scores = layer_linearities(network, stripes)
    assert [score.position for score in scores] == [0, 1, 2]
    assert scores[1].relu.r2 > 0.999999 and scores[1].output == scores[1].relu
    assert scores[0].relu.r2 < 0.999


def test_norm_and_skip_are_part_of_the_output(trained, stripes):
    for score in layer_linearities(trained, stripes):
        assert score.output.r2 != score.relu.r2
        assert score.relu.tokens == len(stripes.test_x)


def test_lenets_pooling_layers_are_left_out(stripes):
    assert [score.position for score in layer_linearities(build("lenet", stripes), stripes)] == [2, 3]


def test_toy(stripes):
    settings = {"width": 32, "epochs": 3, "probe_epochs": 5, "batch_size": 16}
    plain = toy_linearity(stripes, **settings)
    assert plain.accuracy > 0.9
    assert plain == toy_linearity(stripes, **settings)
    assert plain.closed_form.r2 > plain.trained.r2
    penalised = toy_linearity(stripes, l1=1.0, **settings)
    assert penalised.accuracy < plain.accuracy  # so strong a penalty leaves nothing of the weights
    for place in ("before-relu", "after-relu"):
        dropped = toy_linearity(stripes, dropout=0.9, place=place, **settings)
        assert dropped.closed_form != plain.closed_form
    with pytest.raises(InputError, match="one of none, before-relu, after-relu"):
        toy_linearity(stripes, place="everywhere")
