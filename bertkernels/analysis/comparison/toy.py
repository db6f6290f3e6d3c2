"""A network with one hidden layer, regularised or with dropout: does that make the layer more linear?"""

from dataclasses import dataclass

import torch
from torch import nn

from bertkernels.analysis.comparison.images import Images
from bertkernels.analysis.comparison.train import accuracy, train
from bertkernels.analysis.linear_probe import fit_linear, moments_of
from bertkernels.analysis.probe_scores import ProbeScores
from bertkernels.analysis.trained_probe import TrainedProbe
from bertkernels.errors import InputError

PLACES = ("none", "before-relu", "after-relu")


class ToyNetwork(nn.Module):
    """Pictures → hidden layer with ReLU → classes."""

    def __init__(self, images: Images, width: int = 768, dropout: float = 0.0, place: str = "none") -> None:
        """place: of dropout, one of `PLACES`. Raises InputError for another."""
        super().__init__()
        if place not in PLACES:
            raise InputError(f"dropout's place must be one of {', '.join(PLACES)}, got {place!r}")
        self.hidden = nn.Linear(images.channels * images.side**2, width)
        self.before = nn.Dropout(dropout if place == "before-relu" else 0.0)
        self.after = nn.Dropout(dropout if place == "after-relu" else 0.0)
        self.head = nn.Linear(width, images.classes)

    def state(self, images: torch.Tensor) -> torch.Tensor:
        """images [N, C, S, S] → what ReLU gives [N, width]. (The released code took another state where dropout
        stands before ReLU, which is a linear one.)"""
        return self.before(self.hidden(images.flatten(1))).relu()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.after(self.state(images)))


@dataclass(frozen=True)
class ToyLinearity:
    """Test accuracy, and how well linear maps say the hidden state from the pixels: the best one, and one trained on
    cosines as in the released code."""

    accuracy: float
    closed_form: ProbeScores
    trained: ProbeScores


def toy_linearity(
    images: Images,
    width: int = 768,
    dropout: float = 0.0,
    place: str = "none",
    l1: float = 0.0,
    epochs: int = 30,
    probe_epochs: int = 10,
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    seed: int = 0,
) -> ToyLinearity:
    """Trains a `ToyNetwork` with Adam on cross-entropy + l1 · Σ|hidden weights|, and probes it on the test pictures.

    The released code has dropout 0.99 in either place, or l1 1.
    """
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's own generator
        torch.manual_seed(seed)
        network = ToyNetwork(images, width, dropout, place)
        penalty = (lambda: l1 * network.hidden.weight.abs().sum()) if l1 else None
        train(network, images, epochs, learning_rate, batch_size, seed, decays=False, penalty=penalty)
    network.eval()
    with torch.no_grad():
        pairs = [(x.flatten(1), network.state(x)) for x in images.train_x.split(batch_size)]
        held_out = [(images.test_x.flatten(1), network.state(images.test_x))]
    trained = TrainedProbe(pairs[0][0].shape[1], width, seed=seed)
    trained.fit(pairs, probe_epochs)
    closed_form = fit_linear(moments_of(pairs), ridge=1e-6)
    return ToyLinearity(accuracy(network, images), closed_form.score(held_out), trained.score(held_out))
