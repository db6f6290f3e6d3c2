"""What must be reached, and what results say of it: one limit a case and figure, all from the rows of one file."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from .case import PROFILE, Case
from .growth import slope
from .results import Row

OURS = "ours"  # in place of a peer's name: the op on the implementation that users get

Rows = Mapping[str, Row]  # of one case, by peer
Figure = Callable[[Rows], float | None]


@dataclass(frozen=True)
class Limit:
    """The figure of a case must be at least, or at most, `bound`.

    Attributes:
        subject: what is limited, the heading of its table.
        what: the figure in words.
        figure: the case's rows → the figure, None where they lack what it takes.
    """

    subject: str
    what: str
    case: Case
    bound: float
    at_least: bool
    figure: Figure


@dataclass(frozen=True)
class Outcome:
    """measured: the figure, None where it was not measured."""

    limit: Limit
    measured: float | None

    @property
    def reached(self) -> bool:
        limit = self.limit
        if self.measured is None:
            return False
        return self.measured >= limit.bound if limit.at_least else self.measured <= limit.bound

    @property
    def missed(self) -> bool:
        return self.measured is not None and not self.reached


def evaluate(limits: Iterable[Limit], rows: Iterable[Row]) -> list[Outcome]:
    """What these rows, of one machine, say of each limit."""
    cases = by_case(rows)
    return [Outcome(limit, limit.figure(cases.get(key(limit.case), {}))) for limit in limits]


def by_case(rows: Iterable[Row]) -> dict[tuple, dict[str, Row]]:
    """Rows of each case by peer; see `key`."""
    cases: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        cases.setdefault(tuple(row[field] for field in _KEY), {})[row["peer"]] = row
    return cases


_KEY = ("record", "op", "size", "batch", "tokens", "text", "mode", "dtype", "device")


def key(case: Case) -> tuple:
    """What finds a case's rows in `by_case`."""
    return tuple(getattr(case, field) for field in _KEY)


def profile_key(case: Case) -> tuple:
    """What finds the profile of this case."""
    return key(replace(case, record=PROFILE))


# -- figures -----------------------------------------------------------------------------------------------------------


def time_ratio(numerator: str, denominator: str) -> Figure:
    """Median time of one peer ÷ that of another."""
    return lambda rows: _ratio(rows, numerator, denominator, "p50_us")


def memory_ratio(numerator: str, denominator: str) -> Figure:
    """Peak memory of one peer ÷ that of another."""
    return lambda rows: _ratio(rows, numerator, denominator, "peak_bytes")


def growth_slope(peer: str) -> Figure:
    """Log-log slope of time over tokens."""

    def figure(rows: Rows) -> float | None:
        row = of_peer(rows, peer)
        return None if row is None else slope(row["tokens_measured"], row["times_us"])

    return figure


def memory_over(peer: str, numbers: int) -> Figure:
    """Peak memory ÷ that of so many numbers of the case's dtype."""

    def figure(rows: Rows) -> float | None:
        row = of_peer(rows, peer)
        if row is None or row["peak_bytes"] is None:
            return None
        return row["peak_bytes"] / (numbers * getattr(torch, row["dtype"]).itemsize)

    return figure


def over_matrix_rate(peer: str) -> Figure:
    """Time ÷ what the case's products take at the rate of a large square product."""

    def figure(rows: Rows) -> float | None:
        row = of_peer(rows, peer)
        if row is None or row["operations"] is None or row["matrix_gflop_s"] is None:
            return None
        return row["p50_us"] * 1e-6 * row["matrix_gflop_s"] * 1e9 / row["operations"]

    return figure


def of_peer(rows: Rows, peer: str) -> Row | None:
    """The row of this peer; OURS stands for the first implementation, which is the best."""
    if peer != OURS:
        return rows.get(peer)
    return next((row for name, row in rows.items() if name.startswith("bertkernels (")), None)


def _ratio(rows: Rows, numerator: str, denominator: str, field: str) -> float | None:
    pair = [of_peer(rows, peer) for peer in (numerator, denominator)]
    if None in pair or None in (above_below := [row[field] for row in pair]):
        return None
    return above_below[0] / above_below[1]
