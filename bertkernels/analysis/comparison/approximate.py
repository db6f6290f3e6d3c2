"""How linear the layers of a network for comparison are."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from bertkernels.analysis.comparison.images import Images
from bertkernels.analysis.comparison.networks import LayeredNetwork
from bertkernels.analysis.linear_probe import Pairs, fit_linear, moments_of
from bertkernels.analysis.probe_scores import ProbeScores

_AT_ONCE = 500
_RIDGE = 1e-6  # many pixels never change


@dataclass(frozen=True)
class LayerLinearity:
    """Of the layer in one position: scores of the best linear map on the test pictures, from its input to what its ReLU
    gives, and to what leaves it, after skip and norm."""

    position: int
    relu: ProbeScores
    output: ProbeScores


def layer_linearities(network: LayeredNetwork, images: Images, ridge: float = _RIDGE) -> list[LayerLinearity]:
    """Closed-form probes of all layers that are linear but for ReLU, skip and norm, fitted on the training pictures.

    A fully connected layer's probe sees its whole input. A convolution's sees, for each pixel of the output, the pixels
    that the convolution sees, so that a convolution is linear to it. LeNet's pooling layers are left out.
    """
    found = []
    for position, layer in enumerate(network.layers):
        if not isinstance(layer.linear, (nn.Linear, nn.Conv2d)):
            continue
        scores = []
        for of_relu in (True, False):
            probe = fit_linear(moments_of(_pairs(network, position, images.train_x, of_relu)), ridge)
            scores.append(probe.score(_pairs(network, position, images.test_x, of_relu)))
        found.append(LayerLinearity(position, *scores))
    return found


@torch.no_grad()
def _pairs(network: LayeredNetwork, position: int, images: torch.Tensor, of_relu: bool) -> Pairs:
    """x [N, Dx], y [N, Dy] of pictures, or of all pixels of pictures."""
    network.eval()
    linear = network.layers[position].linear
    for part in images.split(_AT_ONCE):
        states = network.states(part)
        x = states[position]
        y = linear(x).relu() if of_relu else states[position + 1]
        if isinstance(linear, nn.Conv2d):
            x, y = _patches(x, linear), y.flatten(2).transpose(1, 2).flatten(0, 1)
        yield x, y


def _patches(x: torch.Tensor, convolution: nn.Conv2d) -> torch.Tensor:
    """x [N, C, S, S] → [N·pixels, C·K·K], what the convolution sees for each pixel of its output"""
    settings = {name: getattr(convolution, name) for name in ("kernel_size", "padding", "stride")}
    return functional.unfold(x, **settings).transpose(1, 2).flatten(0, 1)
