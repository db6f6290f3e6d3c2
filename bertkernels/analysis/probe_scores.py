"""How well predictions of a probe meet their targets, over a stream."""

from dataclasses import asdict, dataclass

import torch

from bertkernels.analysis.cone import Cone, normalized, normalized_linearity


@dataclass(frozen=True)
class ProbeScores:
    """Of one probe on held-out tokens. `baseline_…`: of the constant that the probe falls back on, its targets' mean.

    R² and the relative error go by squares, so that the few features and tokens with very large values that encoders
    have may decide them. Cosines count every token alike.

    Attributes:
        tokens: how many were scored.
        r2: 1 − Σ‖y−ŷ‖² / Σ‖y−ȳ‖², ȳ the mean of these targets (scikit-learn's `r2_score`, "variance_weighted").
        relative_error: (Σ‖y−ŷ‖² / Σ‖y‖²)^½.
        cosine: mean of cos(y, ŷ), the paper's γ.
        cone_size: of the targets, by `cone.Cone`.
        normalized_linearity: of `cosine` and `cone_size`, by `cone.normalized_linearity`.
    """

    tokens: int
    r2: float
    relative_error: float
    cosine: float
    baseline_r2: float
    baseline_relative_error: float
    baseline_cosine: float
    cone_size: float
    normalized_linearity: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class Scoring:
    """Collects `ProbeScores` over a stream, in fp64."""

    def __init__(self, constant: torch.Tensor) -> None:
        """constant: [Dy], the baseline's prediction."""
        self._constant = constant.double()
        self._cone = Cone()
        self._probe, self._baseline = _Errors(), _Errors()
        self._mean = torch.zeros_like(self._constant)
        self._variance = 0.0  # Σ‖y−mean‖²
        self._length = 0.0  # Σ‖y‖²

    def add(self, y: torch.Tensor, predicted: torch.Tensor) -> None:
        """Both [N, Dy]."""
        y, predicted = y.detach().double(), predicted.detach().double()
        if not len(y):
            return
        before, now = self.tokens, self.tokens + len(y)
        mean = y.mean(0)
        between = (mean - self._mean).square().sum().item()
        self._variance += (y - mean).square().sum().item() + between * before * len(y) / now
        self._mean += (mean - self._mean) * (len(y) / now)
        self._length += y.square().sum().item()
        self._cone.add(y)
        self._probe.add(y, predicted)
        self._baseline.add(y, self._constant.expand_as(y))

    @property
    def tokens(self) -> int:
        return self._cone.count

    def scores(self) -> ProbeScores:
        """Raises ValueError where nothing was added."""
        tokens = self.tokens
        if not tokens:
            raise ValueError("a probe cannot be scored on a stream without tokens")
        cosine, cone_size = self._probe.cosines / tokens, self._cone.size
        return ProbeScores(
            tokens=tokens,
            r2=_explained(self._probe.squares, self._variance),
            relative_error=_ratio(self._probe.squares, self._length),
            cosine=cosine,
            baseline_r2=_explained(self._baseline.squares, self._variance),
            baseline_relative_error=_ratio(self._baseline.squares, self._length),
            baseline_cosine=self._baseline.cosines / tokens,
            cone_size=cone_size,
            normalized_linearity=normalized_linearity(cosine, cone_size),
        )


class _Errors:
    def __init__(self) -> None:
        self.squares = self.cosines = 0.0

    def add(self, y: torch.Tensor, predicted: torch.Tensor) -> None:
        self.squares += (y - predicted).square().sum().item()
        self.cosines += (normalized(y) * normalized(predicted)).sum().item()


def _explained(squares: float, variance: float) -> float:
    if variance > 0:
        return 1 - squares / variance
    return 1.0 if squares == 0 else 0.0  # targets that never change, as scikit-learn has it


def _ratio(squares: float, length: float) -> float:
    return (squares / length) ** 0.5 if length else float("nan")
