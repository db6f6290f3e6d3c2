"""The limits as Markdown: each beside what was measured, and for those that are missed what takes the time."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from .case import Case
from .comparison import batch_of
from .cpu_limits import LIMITS as CPU_LIMITS
from .gpu_limits import LIMITS as GPU_LIMITS
from .limits import Outcome, evaluate
from .report import machine_name, measured_with, table, three_digits
from .results import Row
from .why import why

LIMITS = {"cpu": CPU_LIMITS, "cuda": GPU_LIMITS}


def check(rows: Iterable[Row]) -> list[tuple[list[Row], list[Outcome]]]:
    """Rows of each machine and number of threads, with what they say of the limits of its kind of device."""

    def key(row: Row) -> tuple[str, ...]:
        return tuple(str(row[field]) for field in ("device", "device_name", "threads"))

    groups = [list(group) for _, group in groupby(sorted(rows, key=key), key)]
    return [(group, evaluate(LIMITS[group[0]["device"]], group)) for group in groups]


def counted(outcomes: Sequence[Outcome]) -> str:
    """How many are reached, in a sentence."""
    missed, unknown = sum(o.missed for o in outcomes), sum(o.measured is None for o in outcomes)
    parts = [f"Of {len(outcomes)} limits {len(outcomes) - missed - unknown} are reached", f"{missed} missed"]
    return ", ".join([*parts, f"{unknown} not measured"] if unknown else parts)


def markdown(rows: Iterable[Row]) -> str:
    """Tables of all limits and of why some are missed."""
    parts = []
    for group, outcomes in check(rows):
        parts += [
            f"### Limits on {machine_name(group[0])}",
            measured_with(group),
            f"{counted(outcomes)}. Bold: missed, and how far the figure is from the limit, as a share of the limit.",
        ]
        for subject, of_subject in groupby(outcomes, lambda outcome: outcome.limit.subject):
            of_subject = list(of_subject)
            parts += [f"#### {subject}", _table(of_subject), *why(of_subject, group)]
    return "\n\n".join(parts) + "\n"


def _table(outcomes: Sequence[Outcome]) -> str:
    """A line a figure and size, a column a batch."""
    batches = list(dict.fromkeys(_batch(outcome.limit.case) for outcome in outcomes))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for outcome in outcomes:
        limit = outcome.limit
        line = limit.what, limit.case.size, f"{'≥' if limit.at_least else '≤'} {limit.bound:g}"
        lines.setdefault(line, {})[_batch(limit.case)] = _cell(outcome)
    body = [[*line, *(cells.get(batch, "–") for batch in batches)] for line, cells in lines.items()]
    return table(["", "size", "limit", *batches], 3, sorted(body, key=lambda line: _order(outcomes, line[0])))


def _order(outcomes: Sequence[Outcome], what: str) -> int:
    """All sizes of a figure together, figures as they come."""
    return next(i for i, outcome in enumerate(outcomes) if outcome.limit.what == what)


def _batch(case: Case) -> str:
    return batch_of(vars(case))


def _cell(outcome: Outcome) -> str:
    if outcome.measured is None:
        return "not measured"
    if outcome.reached:
        return three_digits(outcome.measured)
    lacking = abs(outcome.measured / outcome.limit.bound - 1)
    percent = f"{100 * lacking:.1f}" if lacking < 0.0995 else f"{100 * lacking:.0f}"
    return f"**{three_digits(outcome.measured)}** ({percent} % {'short' if outcome.limit.at_least else 'over'})"
