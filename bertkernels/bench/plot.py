"""One picture of all results: how many times as fast as Hugging Face's code, for every case and peer."""

from collections.abc import Iterable
from pathlib import Path

from bertkernels.errors import InputError

from .op_bench import HUGGING_FACE
from .results import Row, case_of

_MARKERS = "osD^vP*X"


def draw(rows: Iterable[Row], path: Path) -> None:
    """Writes a PNG: one line a case, one mark a peer, logarithmic scale.

    Raises InputError where no row can be compared with Hugging Face's code.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    cases: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        cases.setdefault(case_of(row), {})[row["peer"]] = row
    cases = {key: case for key, case in cases.items() if HUGGING_FACE in case and len(case) > 1}
    if not cases:
        raise InputError("nothing to plot: no result stands beside one of Hugging Face's code")

    labels = [_label(next(iter(case.values()))) for case in cases.values()]
    peers = list(dict.fromkeys(peer for case in cases.values() for peer in case if peer != HUGGING_FACE))
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.22 * len(cases)), layout="constrained")
    for i, peer in enumerate(peers):
        points = [
            (case[HUGGING_FACE]["p50_us"] / case[peer]["p50_us"], line)
            for line, case in enumerate(cases.values())
            if peer in case
        ]
        floor = any(case[peer]["floor"] for case in cases.values() if peer in case)
        x, y = zip(*points, strict=True)
        style = {"facecolors": "none", "edgecolors": f"C{i}"} if floor else {"color": f"C{i}"}
        axes.scatter(x, y, marker=_MARKERS[i % len(_MARKERS)], label=peer, zorder=3, **style)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(alpha=0.3)
    axes.set_xlabel("times as fast as Hugging Face's code (hollow: only the part of the work nobody can leave out)")
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _label(row: Row) -> str:
    device = "" if row["device"] == "cpu" else f" ({row['device']})"
    batch = f"B{row['batch']}·T{row['tokens']}" if row["text"] is None else row["text"]
    return f"{row['op']} {row['size']} {batch} {row['mode']}{device}"
