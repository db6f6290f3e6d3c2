"""The speeds that must be reached on the CPU, and what is reached here."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .case import BOTH, FORWARD, Case
from .encoder import OURS as ENCODER
from .encoder import PATCHED, PRODUCTS
from .growth import growth
from .measure import THOROUGH, Effort, measure
from .op_bench import COPY, HUGGING_FACE, HUGGING_FACE_COMPILED
from .padded_batch import LENGTHS, UNPADDED, padded_case
from .peak_memory import peak_memory
from .select import SHAPES, SIZES, bench_of


@dataclass(frozen=True)
class Limit:
    """time of `numerator` ÷ time of `denominator` must be at least, or at most, `bound`. OURS stands for the op."""

    case: Case
    numerator: str
    denominator: str
    bound: float
    at_least: bool

    @property
    def label(self) -> str:
        return f"{self.case.label}: {self.numerator} ÷ {self.denominator}"


@dataclass(frozen=True)
class Bound:
    """What `measured()` gives must be at least, or at most, `bound`."""

    label: str
    measured: Callable[[], float]
    bound: float
    at_least: bool


@dataclass(frozen=True)
class Outcome:
    limit: Limit | Bound
    ratio: float

    @property
    def reached(self) -> bool:
        return self.ratio >= self.limit.bound if self.limit.at_least else self.ratio <= self.limit.bound


OURS = "ours"
_SHAPES = SHAPES["cpu"]


def _at_least(bound: float, case: Case, numerator: str, denominator: str) -> Limit:
    return Limit(case, numerator, denominator, bound, at_least=True)


def _at_most(bound: float, case: Case, numerator: str, denominator: str) -> Limit:
    return Limit(case, numerator, denominator, bound, at_least=False)


def _op_limits() -> Iterator[Limit]:
    for size in SIZES:
        for batch, tokens in _SHAPES:
            case = Case("light_conv", size, batch, tokens, FORWARD, compiled=True)
            yield _at_most(2.5, case, OURS, COPY)
            yield _at_least(100, case, HUGGING_FACE, OURS)
            yield _at_least(40, case, HUGGING_FACE_COMPILED, OURS)
            yield _at_least(40, Case("light_conv", size, batch, tokens, BOTH), HUGGING_FACE, OURS)
            yield _at_least(4, Case("depthwise_conv", size, batch, tokens, FORWARD), HUGGING_FACE, OURS)


def _encoder_limits() -> Iterator[Limit]:
    for size in SIZES:
        for batch, tokens in _SHAPES:
            forward = Case("encoder", size, batch, tokens, FORWARD, compiled=True)
            for ours in (PATCHED, ENCODER):
                yield _at_most(1.08 if size == "base" else 1.15, forward, ours, PRODUCTS)
            yield _at_least(1, forward, HUGGING_FACE_COMPILED, PATCHED)
    for size, bound in (("base", 1.15), ("small", 1.3)):
        case = Case("encoder", size, 8, 128, BOTH)
        yield _at_most(bound, case, PATCHED, PRODUCTS)
        yield _at_most(bound, case, ENCODER, PRODUCTS)
    yield _at_least(1.6, case, HUGGING_FACE, PATCHED)
    yield _at_least(1.3, Case("encoder", "small", 8, 128, FORWARD, compiled=True), HUGGING_FACE, PATCHED)
    for size, bound in (("base", 1.9), ("small", 2.4)):
        for text in LENGTHS:
            case = padded_case(text, size, FORWARD, compiled=True)
            yield _at_least(bound, case, HUGGING_FACE, UNPADDED)
            yield _at_least(1.5, case, HUGGING_FACE_COMPILED, UNPADDED)


LIMITS = (*_op_limits(), *_encoder_limits())


def _memory_share() -> float:
    """Peak memory of a patched base training step at B8·T512 as a share of Hugging Face's."""
    case = Case("encoder", "base", 8, 512, BOTH)
    return peak_memory(case, PATCHED) / peak_memory(case, HUGGING_FACE)


def _half_precision_gain(size: str) -> float:
    """How many times as fast the patched model runs in bf16."""
    single, half = (Case("encoder", size, 8, 128, FORWARD, dtype=dtype) for dtype in ("float32", "bfloat16"))
    times = [measure(case, THOROUGH, threads=2, only={PATCHED}).timings[PATCHED].p50 for case in (single, half)]
    return times[0] / times[1]


BOUNDS = (
    *(
        Bound(
            f"{op} base, T 128 to 65,536 forward float32: log-log slope of time", lambda op=op: growth(op), 1.05, False
        )
        for op in ("light_conv", "depthwise_conv")
    ),
    *(
        Bound(
            f"encoder {size} B8·T128 forward: patched float32 ÷ bfloat16",
            lambda s=size: _half_precision_gain(s),
            1.5,
            True,
        )
        for size in ("small", "base")
    ),
    Bound(
        "encoder base B8·T512 forward+backward float32: peak memory patched ÷ Hugging Face", _memory_share, 0.6, False
    ),
)


def check_limits(
    threads: int | None = 2,
    effort: Effort = THOROUGH,
    limits: Sequence[Limit] | None = None,
    bounds: Sequence[Bound] | None = None,
) -> Iterator[Outcome]:
    """Measures what `limits` (by default the CPU's) ask for, each case once with the peers that its limits name, in
    turns in one process; then `bounds`, one after the other. A peer that cannot be compiled here leaves its limits out
    as not a number."""
    limits = LIMITS if limits is None else limits
    for case in dict.fromkeys(limit.case for limit in limits):
        of_case = [limit for limit in limits if limit.case == case]
        name = _names(case)
        peers = {name(peer) for limit in of_case for peer in (limit.numerator, limit.denominator)}
        measurement = measure(case, effort, threads=threads, only=peers)
        for limit in of_case:
            numerator, denominator = name(limit.numerator), name(limit.denominator)
            there = measurement.timings.keys() >= {numerator, denominator}
            yield Outcome(limit, measurement.ratio(numerator, denominator) if there else math.nan)
    for bound in BOUNDS if bounds is None else bounds:
        yield Outcome(bound, bound.measured())


def _names(case: Case) -> Callable[[str], str]:
    """Peers by the names that limits give them."""
    return lambda peer: bench_of(case).best(case) if peer == OURS else peer


def table(outcomes: list[Outcome]) -> str:
    """Markdown: what was measured, the limit, and whether it was reached."""
    lines = ["| what | measured | limit | |", "| --- | ---: | ---: | --- |"]
    for outcome in outcomes:
        limit, sign = outcome.limit, "≥" if outcome.limit.at_least else "≤"
        verdict = "ok" if outcome.reached else "missed"
        lines.append(f"| {limit.label} | {outcome.ratio:.2f} | {sign} {limit.bound:g} | {verdict} |")
    return "\n".join(lines)
