"""The page of all results: where ours loses, times of all peers, and how near ours comes to the machine's rates."""

from collections.abc import Iterable, Sequence

from .case import TIMES
from .comparison import Comparison, comparisons
from .op_bench import HUGGING_FACE
from .report import by_op, duration, machine, machines, table, three_digits, times, what
from .results import Row
from .summary import NO_GPU


def details(rows: Iterable[Row]) -> str:
    """Tables of everything in these rows."""
    rows = list(rows)
    parts = []
    for group in machines(rows):
        parts += [machine(group), _lost(group), _left_out(group)]
        for op, cases in by_op(group):
            parts += [f"#### {op}", f"{what(op)[0].upper()}{what(op)[1:]}.", times(cases), _rates(cases)]
    if not any(row["device"] == "cuda" for row in rows):
        parts.append(NO_GPU)
    return "\n\n".join(part for part in parts if part) + "\n"


def _lost(rows: Sequence[Row]) -> str:
    lost = [case for case in comparisons(rows) if case.loses]
    if not lost:
        return "#### Where another way is faster\n\nNowhere in what was measured."
    header = ["", "size", "batch", "mode", "ours", "faster", "its time", "ours takes"]
    lines = []
    for case in lost:
        ours, rival = case.whole[case.ours], case.whole[case.rival]
        names = [f"`{case.row['op']}`", case.row["size"], case.batch, case.row["mode"]]
        lines.append([*names, duration(ours), case.rival, duration(rival), f"{three_digits(ours / rival)}× as long"])
    return f"#### Where another way is faster\n\n{table(header, 4, lines)}"


def _left_out(rows: Sequence[Row]) -> str:
    """Peers that could not be compiled."""
    reasons = {peer: reason for row in rows if row["record"] == TIMES for peer, reason in row["left_out"].items()}
    return "\n".join(f"- {peer} is missing in some tables: {reason}" for peer, reason in reasons.items())


def _rates(cases: Sequence[Comparison]) -> str:
    """Ours beside the rates of the machine, with its spread and its memory beside Hugging Face's."""
    header = [
        *("size", "batch", "mode", "ours: 20 %", "50 %", "80 %"),
        *("MB moved at best", "% of copy rate", "GFLOP", "% of matrix rate", "peak memory", "Hugging Face's"),
    ]
    lines = []
    for case in cases:
        if case.ours is None:
            continue
        row = case.rows[case.ours]
        theirs = case.rows.get(HUGGING_FACE)
        lines.append(
            [
                *(row["size"], case.batch, row["mode"]),
                *(duration(row[field]) for field in ("p20_us", "p50_us", "p80_us")),
                _scaled(row["bytes"], 1e-6),
                _scaled(row["percent_of_copy_bandwidth"], 1),
                _scaled(row["operations"], 1e-9),
                _scaled(row["percent_of_matrix_rate"], 1),
                _megabytes(row["peak_bytes"]),
                _megabytes(theirs["peak_bytes"] if theirs else None),
            ]
        )
    return table(header, 3, lines)


def _scaled(value: float | None, scale: float) -> str:
    return "–" if value is None else three_digits(value * scale)


def _megabytes(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e6:.1f} MB"
