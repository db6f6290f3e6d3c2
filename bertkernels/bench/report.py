"""Results as Markdown: one table an op and machine, every measured shape in it, also those that lose."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from bertkernels.errors import InputError

from . import OPS
from .encoder import PATCHED
from .op_bench import HUGGING_FACE
from .padded_batch import UNPADDED
from .results import Row, case_of
from .select import SIZES

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

_WHAT = {
    "light_conv": "softmax over 9 taps and the convolution of every token and head with its own kernel",
    "depthwise_conv": "one filter of 9 taps a channel",
    "grouped_linear": "feed-forward layer in 2 groups, bias and GELU",
    "encoder": "a whole ConvBERT, from ids to hidden states, no dropout; compiled: each layer by `torch.compile`",
    "padded_batch": "a whole ConvBERT on 32 sentences of a GLUE task; Hugging Face runs padding too, ours real tokens",
}
_MODES = ("forward", "forward+backward")


def markdown(rows: Iterable[Row], plot: str | None = None) -> str:
    """Tables of these rows; `plot` is a link to a picture to show above them."""
    rows = list(rows)
    parts = [f"![speed compared with Hugging Face]({plot})"] if plot else []
    for _, group in _grouped(rows, ("device", "device_name", "threads", "dtype")):
        parts.append(_machine(group))
        parts += [_table(op, list(group_of_op)) for op, group_of_op in _by_op(group)]
    if not any(row["device"] == "cuda" for row in rows):
        parts.append("Not measured on a GPU yet.")
    return "\n\n".join(parts) + "\n"


def update(path: Path, text: str) -> None:
    """Puts `text` between the two markers in a Markdown file.

    Raises InputError where it cannot be read or has not exactly one pair of markers.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if content.count(BEGIN) != 1 or content.count(END) != 1 or content.index(BEGIN) > content.index(END):
        raise InputError(f"{path}: expected one line {BEGIN} and after it one line {END}")
    before, rest = content.split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}", encoding="utf-8")


def duration(microseconds: float) -> str:
    """Three digits with the unit that suits them."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{_three_digits(microseconds / size)} {unit}"
    return f"{_three_digits(microseconds)} µs"


def _three_digits(value: float) -> str:
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{decimals}f}"


def _grouped(rows: Sequence[Row], fields: tuple[str, ...]) -> Iterable[tuple[tuple, list[Row]]]:
    def key(row: Row) -> tuple:
        return tuple(row[field] for field in fields)

    for value, group in groupby(sorted(rows, key=lambda row: tuple(map(str, key(row)))), key):
        yield value, list(group)


def _by_op(rows: list[Row]) -> Iterable[tuple[str, list[Row]]]:
    ops = sorted({row["op"] for row in rows}, key=lambda op: OPS.index(op) if op in OPS else len(OPS))
    for op in ops:
        yield op, [row for row in rows if row["op"] == op]


def _machine(rows: list[Row]) -> str:
    """What all tables of one machine were measured with."""
    first = rows[0]
    count = first["threads"]
    threads = "" if count is None else f", {count} thread{'s' if count > 1 else ''}"
    versions = _all({", ".join(f"{name} {version}" for name, version in row["versions"].items()) for row in rows})
    sources = _all({(row["source"] or "unknown")[:12] for row in rows})
    dates = _all({row["date"] for row in rows})
    return (
        f"### {first['device_name']}{threads}, {first['dtype']}\n\n"
        f"Measured on {dates} by `bertkernels bench{' --device cuda' if first['device'] == 'cuda' else ''}`: "
        f"{versions}; sources {sources}.\n"
        "Medians of times taken in turns in one process. In parentheses: how many times as fast as Hugging Face's code "
        "(below 1: slower). Bold: the fastest that does the whole work. The last column but one is only that part of "
        "the work which nobody can leave out; the last says how many times as long ours takes."
    )


def _all(values: set[str]) -> str:
    return " and ".join(sorted(values))


def _table(op: str, rows: list[Row]) -> str:
    peers = list(dict.fromkeys(row["peer"] for row in rows if not row["floor"]))
    floors = list(dict.fromkeys(row["peer"] for row in rows if row["floor"]))
    header = ["size", "batch", "mode", *peers, *floors, "ours / floor"]
    lines = [f"**{op}**: {_WHAT[op]}" if op in _WHAT else f"**{op}**", "", _line(header)]
    lines.append(_line(["---"] * 3 + ["---:"] * (len(header) - 3)))
    cases: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        cases.setdefault(case_of(row), {})[row["peer"]] = row
    for case in sorted(cases.values(), key=_place):
        lines.append(_line(_cells(case, peers, floors)))
    return "\n".join(lines)


def _place(case: dict[str, Row]) -> tuple:
    row = next(iter(case.values()))
    sizes = [*SIZES, row["size"]]
    modes = [*_MODES, row["mode"]]
    return (
        sizes.index(row["size"]),
        row["text"] or "",
        -row["batch"] * row["tokens"],
        row["tokens"],
        modes.index(row["mode"]),
    )


def _cells(case: dict[str, Row], peers: list[str], floors: list[str]) -> list[str]:
    first = next(iter(case.values()))
    times = {peer: row["p50_us"] for peer, row in case.items()}
    fastest = min((peer for peer in peers if peer in times), key=times.get, default=None)
    baseline = times.get(HUGGING_FACE)
    shape = f"B{first['batch']}·T{first['tokens']}"
    cells = [first["size"], shape if first["text"] is None else f"{first['text']} {shape}", first["mode"]]
    for peer in [*peers, *floors]:
        if peer not in times:
            cells.append("–")
            continue
        cell = duration(times[peer])
        if baseline is not None and peer != HUGGING_FACE:
            cell += f" ({_three_digits(baseline / times[peer])}×)"
        cells.append(f"**{cell}**" if peer == fastest else cell)
    ours = our_peer(times)
    floor = next((times[peer] for peer in floors if peer in times), None)
    cells.append("–" if ours is None or floor is None else f"{_three_digits(times[ours] / floor)}")
    return cells


def our_peer(peers: Iterable[str]) -> str | None:
    """The one of these that is ours, as users get it: a patched model, or the op on its best implementation."""
    ours = (PATCHED, UNPADDED)
    return next((peer for peer in peers if peer in ours or peer.startswith("bertkernels (")), None)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
