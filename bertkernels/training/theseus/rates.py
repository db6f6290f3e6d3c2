"""How likely a module is replaced, step by step.

Steps are optimizer updates done before: the first batch has step 0. Source: Xu et al. 2020 (arXiv 2002.02925) and its
released code; rates are above 0 and at most 1 there too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bertkernels.errors import InputError


class ReplacementRate(Protocol):
    """The rate in force for the batches of a step; 1 from some step on where the successor alone is trained."""

    def __call__(self, step: int) -> float: ...

    def describe(self) -> str:
        """In a few words."""


@dataclass(frozen=True)
class ConstantRate:
    """One rate for `replacing_steps` steps, then 1; None: for ever."""

    rate: float
    replacing_steps: int | None = None

    def __post_init__(self) -> None:
        _check_rate("replacing_rate", self.rate)
        if self.replacing_steps is not None and self.replacing_steps < 1:
            raise InputError(
                f"steps_for_replacing must be at least 1, not {self.replacing_steps}: in the released code 0, its "
                "default, is one step at replacing_rate and then the successor alone; leave it out to replace for ever"
            )

    def __call__(self, step: int) -> float:
        return self.rate if self.replacing_steps is None or step < self.replacing_steps else 1.0

    def describe(self) -> str:
        return f"{self.rate:g} constant" + (f" for {self.replacing_steps} steps" if self.replacing_steps else "")


@dataclass(frozen=True)
class LinearRate:
    """min(1, base + k · step): the paper's curriculum."""

    base: float
    k: float

    def __post_init__(self) -> None:
        _check_rate("replacing_rate", self.base)
        if not 0 <= self.k < float("inf"):
            raise InputError(f"scheduler_linear_k must not be negative, got {self.k}: the rate would fall to 0")

    def __call__(self, step: int) -> float:
        return min(1.0, self.base + self.k * step)

    def describe(self) -> str:
        return f"{self.base:g} + {self.k:g} a step"


@dataclass(frozen=True)
class AntiCurriculumRate:
    """1 − (base + k · step) while that is above 0, then 1.

    The paper compares with this, p ↦ 1 − p of the linear one. What happens at 0, where nothing would train, was not
    published; here the successor alone is trained from there on, as after the linear one has reached 1.
    """

    base: float
    k: float

    def __post_init__(self) -> None:
        LinearRate(self.base, self.k)
        if self.base == 1:
            raise InputError("replacing_rate 1 leaves nothing of an anti-curriculum: its first rate would be 0")

    def __call__(self, step: int) -> float:
        rate = 1.0 - (self.base + self.k * step)
        return rate if rate > 0 else 1.0

    def describe(self) -> str:
        return f"{1 - self.base:g} − {self.k:g} a step"


@dataclass(frozen=True)
class ListedRates:
    """(step, rate) pairs: each rate from its step on; the first from step 0."""

    rates: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        if not self.rates or self.rates[0][0] != 0:
            raise InputError("replacing_rates must begin with step 0, such as 0:0.3")
        steps = [step for step, _ in self.rates]
        if sorted(set(steps)) != steps:
            raise InputError(f"replacing_rates must have rising steps, got {', '.join(map(str, steps))}")
        for step, rate in self.rates:
            _check_rate(f"replacing_rates at step {step}", rate)

    def __call__(self, step: int) -> float:
        return next(rate for first, rate in reversed(self.rates) if first <= step)

    def describe(self) -> str:
        return ", ".join(f"{rate:g} from step {step}" for step, rate in self.rates)


def read_listed_rates(texts: Sequence[str]) -> ListedRates:
    """Of texts such as 500:0.6, a step and its rate. Raises InputError that names the text."""
    pairs = []
    for text in texts:
        step, colon, rate = text.partition(":")
        try:
            pairs.append((int(step), float(rate)))
        except ValueError:
            raise InputError(f"replacing_rates: expected a step and a rate such as 500:0.6, got {text!r}") from None
    return ListedRates(tuple(pairs))


def first_full_step(rate: ReplacementRate, steps: int) -> int | None:
    """The step from which on all modules are replaced to the end of a run of so many; None: they are not."""
    below = next((step for step in reversed(range(steps)) if rate(step) < 1), -1)
    return below + 1 if below + 1 < steps else None


def _check_rate(name: str, rate: float) -> None:
    if not 0 < rate <= 1:
        raise InputError(f"{name} must be above 0 and at most 1, got {rate:g}")
