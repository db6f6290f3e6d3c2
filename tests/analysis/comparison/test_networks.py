"""Networks have the published sizes, and layers move whole."""

import pytest
import torch
from torch.nn import functional

from bertkernels.analysis.comparison.images import Images
from bertkernels.analysis.comparison.networks import NETWORKS, build, cnn
from bertkernels.errors import InputError


def blank(side: int, channels: int = 1) -> Images:
    x, y = torch.rand(2, channels, side, side), torch.tensor([0, 9])
    return Images(x, y, x, y)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", [8, 28])
def test_logits_of_any_size_of_pictures(name, side):
    images = blank(side)
    assert build(name, images)(images.test_x).shape == (2, 10)


@pytest.mark.parametrize(
    "name, parameters", [("mlp", 608_830), ("mlp-long", 611_666), ("cnn", 656 + 5 * 1608 + 11_530)]
)
def test_published_sizes(name, parameters):
    assert sum(weight.numel() for weight in build(name, blank(28)).parameters()) == parameters


@pytest.mark.parametrize("images", [blank(28), blank(32, 3)])
def test_convolutions_are_12_pixels_a_side(images):
    assert build("cnn", images).states(images.test_x)[1].shape == (2, 8, 12, 12)


def test_layers_by_hand():
    images = blank(8)
    network = build("mlp-ln-skip", images)
    x = images.test_x.flatten(1)
    for position, layer in enumerate(network.layers):
        y = functional.relu(layer.linear(x)) + (x if position else 0)
        x = functional.layer_norm(y, (278,))
    torch.testing.assert_close(network(images.test_x), network.head(x))
    residual = cnn(images, 6, norm=True, over=2)
    found = residual.states(images.test_x)
    for position, skipped in ((2, found[1]), (5, found[4]), (3, 0)):
        layer = residual.layers[position]
        expected = layer.norm(functional.relu(layer.linear(found[position])) + skipped)
        torch.testing.assert_close(found[position + 1], expected)


def test_layer_norms_move_with_their_layer():
    images = blank(8)
    network = build("mlp-ln-skip", images)
    for layer in network.layers:
        torch.nn.init.uniform_(layer.norm.weight)
    moved = network.reordered([1, 0, 2, 3, 4])
    for here, there in ((0, 0), (1, 2), (2, 1), (3, 3)):
        for name in ("linear", "norm"):
            one, other = (getattr(layer, name).weight for layer in (moved.layers[here], network.layers[there]))
            assert torch.equal(one, other) and one is not other
    assert not torch.equal(moved(images.test_x), network(images.test_x))
    assert torch.equal(network.reordered(range(5))(images.test_x), network(images.test_x))


def test_skips_stay_where_they_are():
    network = build("cnn-ln-residual", blank(8))
    assert network.reordered([4, 3, 2, 1, 0]).skips == network.skips == (None, None, 0, None, None, 3)


def test_initialisations():
    images = blank(28)
    for initialisation, deviation in (("fair", (2 / 278) ** 0.5), ("paper", 1e-3)):
        weight = build("mlp", images, initialisation).layers[3].linear.weight
        assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    fair, paper = (build("cnn", images, initialisation).layers[3].linear.weight for initialisation in ("fair", "paper"))
    assert torch.equal(fair, paper)
    assert torch.equal(build("mlp", images, seed=3).head.weight, build("mlp", images, seed=3).head.weight)
    assert not torch.equal(build("mlp", images, seed=3).head.weight, build("mlp", images, seed=4).head.weight)


def test_bad_input():
    network = build("mlp", blank(8))
    for order in ([0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 4, 5]):
        with pytest.raises(InputError, match="each number from 0 to 4 once"):
            network.reordered(order)
    with pytest.raises(InputError, match="layers 0, 2 have different shapes"):
        build("lenet", blank(8)).reordered([2, 1, 0])
    with pytest.raises(InputError, match="no network 'resnet'; there are mlp"):
        build("resnet", blank(8))
    with pytest.raises(InputError, match="one of fair, paper"):
        build("mlp", blank(8), "zero")
