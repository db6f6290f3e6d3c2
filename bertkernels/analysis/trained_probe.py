"""Probes that are trained by gradient descent, as the paper's were.

`LinearProbe` is the better measure of linearity; the gap between both shows what training leaves out. The non-linear
kinds show how much of a part a small network that sees one token can learn at all.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional

from bertkernels.analysis.linear_probe import Pairs
from bertkernels.analysis.probe_scores import ProbeScores, Scoring

KINDS = ("linear", "relu", "mlp")


def cosine_loss(y: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """1 − cos(y, ŷ), the mean over tokens: blind to the length of ŷ, so that a probe so trained can replace nothing."""
    return 1 - functional.cosine_similarity(y, predicted, dim=-1).mean()


def mse_loss(y: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """The mean of (y − ŷ)² over tokens and features."""
    return functional.mse_loss(predicted, y)


def l2_loss(y: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """‖y − ŷ‖, the mean over tokens."""
    return torch.linalg.vector_norm(y - predicted, dim=-1).mean()


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cosine": cosine_loss,
    "mse": mse_loss,
    "l2": l2_loss,
}


class TrainedProbe:
    """A small network from x to y, trained batch by batch; any number of them learn from one pass of an encoder.

    Kinds: "linear" is one layer; "relu" is ReLU(Wx + b), the paper's non-linear approximator, whose predictions are
    never negative; "mlp" has a hidden layer of 4·Dx with GELU between.
    Weights begin as normal of deviation 0.02 cut at two, and Adam has a constant rate, both as in the released code.
    Losses are over real tokens; there, padding counts.
    """

    def __init__(
        self,
        width: int,
        target_width: int,
        kind: str = "linear",
        loss: str = "cosine",
        learning_rate: float = 1e-3,
        dropout: float = 0.0,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """width, target_width: Dx, Dy. dropout: of the output of "relu" (0.2 in the released code) or of the hidden
        layer of "mlp". Raises ValueError for an unknown kind or loss."""
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        generator = torch.Generator().manual_seed(seed)
        self.module = _network(width, target_width, kind, dropout, generator).to(device)
        self._loss = LOSSES[loss]
        self._optimizer = torch.optim.Adam(self.module.parameters(), lr=learning_rate)
        self._sum = torch.zeros(target_width, dtype=torch.float64, device=device)
        self._count = 0

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Learns from x [N, Dx] and y [N, Dy], and returns the loss before that."""
        if not len(x):
            return 0.0
        x, y = x.detach().float(), y.detach().float()
        self._sum += y.double().sum(0)
        self._count += len(y)
        self.module.train()
        with torch.enable_grad():
            loss = self._loss(y, self.module(x))
            self._optimizer.zero_grad()
            loss.backward()
        self._optimizer.step()
        return loss.item()

    def fit(self, pairs: Iterable, epochs: int = 3) -> list[float]:
        """Learns from a stream that can be gone through repeatedly, such as a list, and returns each epoch's mean loss.

        Raises ValueError for an iterator, which has one pass in it, where there are more epochs.
        """
        if epochs > 1 and iter(pairs) is pairs:
            raise ValueError(f"{epochs} epochs need a stream that can be gone through again, got an iterator")
        means = []
        for _ in range(epochs):
            losses = [self.step(x, y) for x, y in pairs]
            means.append(sum(losses) / max(1, len(losses)))
        return means

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, Dx] → fp32 [N, Dy], without dropout"""
        self.module.eval()
        return self.module(x.float())

    def scoring(self) -> Scoring:
        """What collects its scores; the baseline is the mean of the targets that it has seen."""
        return Scoring(self._sum / max(1, self._count))

    def score(self, pairs: Pairs) -> ProbeScores:
        """Its scores on a held-out stream."""
        scoring = self.scoring()
        for x, y in pairs:
            scoring.add(y, self(x))
        return scoring.scores()


def _network(width: int, target_width: int, kind: str, dropout: float, generator: torch.Generator) -> nn.Sequential:
    hidden = 4 * width
    layers = {
        "linear": lambda: [nn.Linear(width, target_width)],
        "relu": lambda: [nn.Linear(width, target_width), nn.ReLU(), nn.Dropout(dropout)],
        "mlp": lambda: [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, target_width)],
    }
    network = nn.Sequential(*layers[kind]())
    for module in network:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04, generator=generator)
            nn.init.zeros_(module.bias)
    return network
