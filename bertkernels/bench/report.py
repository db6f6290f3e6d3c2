"""Results as Markdown: one table an op and machine, every measured shape in it, also those that lose."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from bertkernels.errors import InputError

from .comparison import Comparison, comparisons
from .op_bench import HUGGING_FACE
from .results import Row
from .select import DTYPES

BENCH, LIMITS = "bench", "limits"  # what stands between markers on a page
LOSES = "▼"

_WHAT = {
    "light_conv": "softmax over 9 taps and the convolution of every token and head with its own kernel",
    "depthwise_conv": "one filter of 9 taps a channel",
    "span_conv": "ConvBERT's span-based convolution from the projections on: spans, kernels, convolution",
    "mixed_attention": "attention heads and convolution heads into one buffer, no dropout",
    "linear": "the wide half of a feed-forward layer, bias and GELU",
    "grouped_linear": "the same layer in 2 groups, bias and GELU",
    "residual_norm": "residual connection and LayerNorm; forward+backward with dropout of 0.1",
    "dynamic_conv": "LV-BERT's whole dynamic-convolution sub-layer with its norm, no dropout; for want of one, Hugging "
    "Face's is plain torch with the unfold of its ConvBERT",
    "encoder": "a whole ConvBERT, from ids to hidden states, no dropout; compiled: each layer by `torch.compile`",
    "padded_batch": "a whole ConvBERT on 32 sentences of a GLUE task; Hugging Face runs padding too, ours real tokens",
}


def markdown(rows: Iterable[Row]) -> str:
    """Tables of the times of all peers in these rows."""
    parts = []
    for group in machines(rows):
        parts += [
            machine(group),
            "Medians of times taken in turns in one process. In parentheses: how many times as fast as Hugging Face's "
            "code (below 1: slower). Bold: the fastest that does the whole work. "
            f"{LOSES}: another way of the same work is faster than ours. The last columns but one are "
            "less than the whole work: the part that nobody can leave out, or something easier; the last says how many "
            "times as long ours takes as the slowest of the parts that nobody can leave out.",
        ]
        parts += [f"**{op}**: {what(op)}\n\n{times(cases)}" for op, cases in by_op(group)]
    return "\n\n".join(parts) + "\n"


def markers(name: str) -> tuple[str, str]:
    """The lines before and after what a run writes into a page."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def update(path: Path, text: str, name: str = BENCH) -> None:
    """Puts `text` between the two markers of this name in a Markdown file.

    Raises InputError where it cannot be read or has not exactly one pair of markers.
    """
    begin, end = markers(name)
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if content.count(begin) != 1 or content.count(end) != 1 or content.index(begin) > content.index(end):
        raise InputError(f"{path}: expected one line {begin} and after it one line {end}")
    before, rest = content.split(begin)
    path.write_text(f"{before}{begin}\n{text}{end}{rest.split(end)[1]}", encoding="utf-8")


# -- what all pages of tables have in common ---------------------------------------------------------------------------


def machines(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows of one device, number of threads and dtype together; the device's own dtype first."""

    def key(row: Row) -> tuple:
        place = tuple(str(row[field]) for field in ("device", "device_name", "threads"))
        return *place, row["dtype"] != DTYPES[row["device"]], row["dtype"]

    return [list(group) for _, group in groupby(sorted(rows, key=key), key)]


def machine(rows: Sequence[Row]) -> str:
    """Heading of one machine's tables, and what they were measured with."""
    first = rows[0]
    return f"### {machine_name(first)}, {first['dtype']}\n\n{measured_with(rows)}"


def machine_name(row: Row) -> str:
    """Device and threads."""
    count = row["threads"]
    return row["device_name"] + ("" if count is None else f", {count} thread{'s' if count > 1 else ''}")


def measured_with(rows: Sequence[Row]) -> str:
    """When, by what command, with what versions and sources."""
    versions = _all({", ".join(f"{name} {version}" for name, version in row["versions"].items()) for row in rows})
    sources = _all({(row["source"] or "unknown")[:12] for row in rows})
    return (
        f"Measured on {_all({row['date'] for row in rows})} by {_all(set(map(_command, rows)))}: {versions}; "
        f"sources {sources}."
    )


def _command(row: Row) -> str:
    options = (" --device cuda" if row["device"] == "cuda" else "") + (" --quick" if row["effort"] == "quick" else "")
    return f"`bertkernels bench{options}`"


def _all(values: set[str]) -> str:
    return " and ".join(sorted(values))


def by_op(rows: Iterable[Row]) -> list[tuple[str, list[Comparison]]]:
    """The cases of each op, in the order of `OPS`."""
    return [(op, list(cases)) for op, cases in groupby(comparisons(rows), lambda comparison: comparison.row["op"])]


def what(op: str) -> str:
    """What is measured, in a line."""
    return _WHAT[op]


def times(cases: Sequence[Comparison]) -> str:
    """The table of one op: times of all peers."""
    peers = list(dict.fromkeys(peer for case in cases for peer in case.whole))
    less = list(dict.fromkeys(peer for case in cases for peer in case.rows if peer not in case.whole))
    header = ["size", "batch", "mode", *peers, *less, "ours / floor"]
    return table(header, 3, [_cells(case, peers, less) for case in cases])


def _cells(case: Comparison, peers: list[str], less: list[str]) -> list[str]:
    cells = [case.row["size"], case.batch, case.row["mode"]]
    baseline = case.whole.get(HUGGING_FACE)
    for peer in [*peers, *less]:
        if peer not in case.rows:
            cells.append("–")
            continue
        time = case.rows[peer]["p50_us"]
        cell = duration(time)
        if baseline is not None and peer != HUGGING_FACE:
            cell += f" ({three_digits(baseline / time)}×)"
        if peer == case.fastest:
            cell = f"**{cell}**"
        cells.append(f"{cell} {LOSES}" if peer == case.ours and case.loses else cell)
    return [*cells, optional(case.over_floor)]


def table(header: Sequence[str], names: int, rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first `names` columns are text, the others numbers."""
    rules = ["---"] * names + ["---:"] * (len(header) - names)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rules, *rows))


def duration(microseconds: float) -> str:
    """Three digits with the unit that suits them."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{three_digits(microseconds / size)} {unit}"
    return f"{three_digits(microseconds)} µs"


def optional(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else three_digits(value)


def three_digits(value: float) -> str:
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{decimals}f}"
