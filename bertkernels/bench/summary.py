"""The README's tables: published sizes at one shape, real batches, and how many of all shapes are lost."""

from collections.abc import Iterable, Sequence

from . import ENCODERS
from .case import BOTH, FORWARD
from .comparison import Comparison, comparisons
from .limits import Outcome
from .limits_table import check, counted
from .op_bench import HUGGING_FACE, HUGGING_FACE_COMPILED
from .report import LOSES, duration, machine, machine_name, machines, optional, table, three_digits
from .results import Row
from .select import DTYPES, MAIN_SIZES, SHAPES

NO_GPU = "Not measured on a GPU yet."


def summary(rows: Iterable[Row], picture: str | None = None, details: str | None = None) -> str:
    """Short tables of these rows, those in the device's own dtype.

    Args:
        picture: Markdown of a picture to show above them.
        details: link to the page that holds all results.
    """
    all_rows = list(rows)
    rows = [row for row in all_rows if row["dtype"] == DTYPES[row["device"]]]
    parts = [picture] if picture else []
    for group in machines(rows):
        parts += [machine(group), _legend(group)]
        cases = main_cases(group)
        parts += [_table(cases, encoders) for encoders in (False, True) if _of_kind(cases, encoders)]
        parts.append(_lost(group, details))
    parts += [_limits(group, outcomes, details) for group, outcomes in check(all_rows)]
    if not any(row["device"] == "cuda" for row in rows):
        parts.append(NO_GPU)
    return "\n\n".join(parts) + "\n"


def main_cases(rows: Iterable[Row]) -> list[Comparison]:
    """Small and base in the device's own dtype, at the first shape and on padded batches, forward and
    forward+backward."""
    return [
        case
        for case in comparisons(rows)
        if case.row["size"] in MAIN_SIZES
        and case.row["dtype"] == DTYPES[case.row["device"]]
        and case.row["mode"] in (FORWARD, BOTH)
        and (case.row["text"] is not None or (case.row["batch"], case.row["tokens"]) == SHAPES[case.row["device"]][0])
    ]


def _legend(rows: Sequence[Row]) -> str:
    batch, tokens = SHAPES[rows[0]["device"]][0]
    return (
        f"Ops and encoders on {batch} sequences of {tokens} tokens, and encoders on batches of 32 sentences of GLUE "
        "tasks. Medians of times taken in turns in one process: ours (an op as it is called without options, or "
        "Hugging Face's own model patched), then how many times as fast that is as Hugging Face's code and as that "
        "code under `torch.compile` (below 1: slower), and how many times as long it takes as the part of the work "
        "that nobody can leave out: a copy of the bytes, the matrix products. "
        f"{LOSES}: another way of the same work is faster."
    )


def _of_kind(cases: Iterable[Comparison], encoders: bool) -> list[Comparison]:
    return [case for case in cases if (case.row["op"] in ENCODERS) == encoders]


_COLUMNS = ("vs Hugging Face", "vs compiled", "÷ floor")


def _table(cases: Sequence[Comparison], encoders: bool) -> str:
    """A line an op (or encoder), size and batch: forward, then forward+backward."""
    lines: dict[tuple[str, ...], dict[str, Comparison]] = {}
    for case in _of_kind(cases, encoders):
        what = f"ConvBERT {case.batch}" if encoders else f"`{case.row['op']}`"
        lines.setdefault((what, case.row["size"]), {})[case.row["mode"]] = case
    modes = (FORWARD, BOTH)
    header = ["", "size", *(column for mode in modes for column in (mode, *_COLUMNS))]
    return table(header, 2, [[*names, *_cells(line, modes)] for names, line in lines.items()])


def _cells(line: dict[str, Comparison], modes: Iterable[str]) -> Iterable[str]:
    for mode in modes:
        case = line.get(mode)
        if case is None or case.ours is None:
            yield from ("–",) * (1 + len(_COLUMNS))
            continue
        yield duration(case.whole[case.ours]) + (f" {LOSES}" if case.loses else "")
        for peer in (HUGGING_FACE, HUGGING_FACE_COMPILED):
            speedup = case.speedup(peer)
            yield "–" if speedup is None else f"{three_digits(speedup)}×"
        yield optional(case.over_floor)


def _limits(rows: Sequence[Row], outcomes: Sequence[Outcome], details: str | None) -> str:
    where = f" ([all of them, and why]({details}#limits))" if details else ""
    return f"{counted(outcomes)} on {machine_name(rows[0])}{where}."


def _lost(rows: Sequence[Row], details: str | None) -> str:
    cases = [case for case in comparisons(rows) if case.ours is not None and case.rival is not None]
    lost = sum(case.loses for case in cases)
    where = f"; all of them, with every peer, are in [{details}]({details})" if details else ""
    measured = f"Of {len(cases)} measured cases (op, size, shape and mode)"
    if not lost:
        return f"{measured} ours is the fastest in all{where}."
    return f"{measured} another way of the same work is faster in {lost}{where}."
