"""The best linear map from one state to another, in closed form: how linear is what lies between them?

A linear probe that is trained falls short of the best one by whatever its training lacks, and what it lacks looks like
non-linearity. This one solves least squares from sums over the stream: one pass, nothing to tune but the ridge.
"""

from collections.abc import Iterable, Sequence

import torch

from bertkernels.analysis.moments import Moments
from bertkernels.analysis.probe_scores import ProbeScores, Scoring

Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]  # x [N, Dx], y [N, Dy] of real tokens
RIDGE = 1e-8
RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class LinearProbe:
    """ŷ = x·weight + bias.

    Attributes:
        weight, bias: fp64, [Dx, Dy] and [Dy].
        constant: the mean of the targets that it was fitted to, [Dy]: its baseline.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, constant: torch.Tensor) -> None:
        self.weight, self.bias, self.constant = weight, bias, constant

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., Dx] → fp64 [..., Dy]"""
        return x.double() @ self.weight + self.bias

    def score(self, pairs: Pairs) -> ProbeScores:
        """Its scores on a stream, which should not be the one that it was fitted to."""
        scoring = Scoring(self.constant)
        for x, y in pairs:
            scoring.add(y, self(x))
        return scoring.scores()

    def linear(self, like: torch.Tensor) -> torch.nn.Linear:
        """The same as a module, in the dtype and on the device of `like`: what a replaced part runs."""
        module = torch.nn.Linear(*self.weight.shape, dtype=like.dtype, device=like.device)
        with torch.no_grad():
            module.weight.copy_(self.weight.T)
            module.bias.copy_(self.bias)
        return module


def moments_of(pairs: Pairs) -> Moments:
    """The sums of a whole stream."""
    moments = Moments()
    for x, y in pairs:
        moments.add(x, y)
    return moments


def fit_linear(moments: Moments, ridge: float = RIDGE) -> LinearProbe:
    """Minimises Σ‖y − xW − b‖² + penalty·‖W‖²; the bias is not penalised.

    Args:
        ridge: the penalty by the mean over features of Σ(x−x̄)², so that it means the same for any N and scale
            (scikit-learn's `Ridge(alpha=ridge · trace(xx) / Dx)`). 0: least squares of the smallest norm.
            States after a layer norm lie in a plane, where least squares without either has no single solution.

    Raises:
        ValueError: no rows, or a negative ridge.
    """
    if not moments.count:
        raise ValueError("a linear probe cannot be fitted to a stream without tokens")
    if ridge < 0:
        raise ValueError(f"ridge must be at least 0, got {ridge}")
    penalty = ridge * moments.xx.diagonal().mean()
    if penalty:
        penalised = moments.xx + penalty * torch.eye(len(moments.xx), dtype=torch.float64, device=moments.xx.device)
        weight = torch.cholesky_solve(moments.xy, torch.linalg.cholesky(penalised))
    else:
        weight = torch.linalg.pinv(moments.xx, hermitian=True) @ moments.xy
    return LinearProbe(weight, moments.mean_y - moments.mean_x @ weight, moments.mean_y)


def choose_ridge(moments: Moments, validation: Moments, ridges: Sequence[float] = RIDGES) -> float:
    """The ridge whose probe of `moments` has the least squared error on the rows of `validation`."""
    return min(ridges, key=lambda ridge: _squared_error(fit_linear(moments, ridge), validation))


def _squared_error(probe: LinearProbe, moments: Moments) -> float:
    """Σ‖y − ŷ‖² over the rows of `moments`."""
    weight = probe.weight
    around_mean = moments.y_squares.sum() - 2 * (weight * moments.xy).sum() + (weight * (moments.xx @ weight)).sum()
    of_means = (moments.mean_y - probe(moments.mean_x)).square().sum()
    return (around_mean + moments.count * of_means).item()
