"""The speeds that must be reached on the CPU, and what is reached here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .case import BOTH, FORWARD, Case
from .encoder import PATCHED, PRODUCTS
from .measure import THOROUGH, Effort, Measurement, measure
from .op_bench import HUGGING_FACE
from .select import bench_of


@dataclass(frozen=True)
class Limit:
    """time of `numerator` ÷ time of `denominator` must be at least, or at most, `bound`. OURS stands for the op."""

    case: Case
    numerator: str
    denominator: str
    bound: float
    at_least: bool


@dataclass(frozen=True)
class Outcome:
    limit: Limit
    ratio: float

    @property
    def reached(self) -> bool:
        return self.ratio >= self.limit.bound if self.limit.at_least else self.ratio <= self.limit.bound


OURS = "ours"


def _case(op: str, size: str, mode: str) -> Case:
    return Case(op, size, batch=8, tokens=128, mode=mode)


LIMITS = (
    Limit(_case("light_conv", "base", FORWARD), HUGGING_FACE, OURS, 50, at_least=True),
    Limit(_case("light_conv", "base", BOTH), HUGGING_FACE, OURS, 20, at_least=True),
    Limit(_case("encoder", "base", FORWARD), PATCHED, PRODUCTS, 1.15, at_least=False),
    Limit(_case("encoder", "small", FORWARD), PATCHED, PRODUCTS, 1.25, at_least=False),
    Limit(_case("encoder", "small", FORWARD), HUGGING_FACE, PATCHED, 1.3, at_least=True),
)


def check_limits(threads: int = 2, effort: Effort = THOROUGH) -> Iterator[Outcome]:
    """Measures what `LIMITS` ask for, each case once with the peers that its limits name, in turns in one process."""
    for case in dict.fromkeys(limit.case for limit in LIMITS):
        limits = [limit for limit in LIMITS if limit.case == case]
        name = _names(case)
        peers = {name(peer) for limit in limits for peer in (limit.numerator, limit.denominator)}
        measurement: Measurement = measure(case, effort, threads=threads, only=peers)
        for limit in limits:
            yield Outcome(limit, measurement.ratio(name(limit.numerator), name(limit.denominator)))


def _names(case: Case) -> Callable[[str], str]:
    """Peers by the names that limits give them."""
    return lambda peer: bench_of(case).best(case) if peer == OURS else peer


def table(outcomes: list[Outcome]) -> str:
    """Markdown: what was measured, the limit, and whether it was reached."""
    lines = ["| what | measured | limit | |", "| --- | ---: | ---: | --- |"]
    for outcome in outcomes:
        limit, sign = outcome.limit, "≥" if outcome.limit.at_least else "≤"
        verdict = "ok" if outcome.reached else "missed"
        lines.append(
            f"| {limit.case.label}: {limit.numerator} ÷ {limit.denominator} "
            f"| {outcome.ratio:.2f} | {sign} {limit.bound:g} | {verdict} |"
        )
    return "\n".join(lines)
