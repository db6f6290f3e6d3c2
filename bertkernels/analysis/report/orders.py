"""What swaps and shuffles found."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bertkernels.analysis.report import plots
from bertkernels.analysis.report.found import PHASES, Found, Scored
from bertkernels.analysis.report.tables import markdown_table


def swap_section(found: Found, folder: Path) -> list[str]:
    """A heat map of all pairs for each phase, and a table by distance."""
    lines = []
    for phase in PHASES:
        scored = found.scored(phase)
        pairs = [one for one in scored if len(one.labels["blocks"]) == 2]
        unchanged = found.unchanged(phase)
        if not scored or unchanged is None:
            continue
        lines += [f"### {phase}", "", f"Unchanged: {found.metric} {unchanged.mean:.4f}.", ""]
        if pairs:
            file = f"{found.name}_{phase}.png"
            _pair_map(folder / file, pairs, unchanged, f"{found.metric}, {phase}")
            lines += [f"![]({file})", "", *_by_distance(pairs), ""]
        others = [one for one in scored if one not in pairs]
        if others:
            lines += [*_order_table(others), ""]
    return lines


def shuffle_section(found: Found, folder: Path) -> list[str]:
    """A curve of the score by the number of fixed points; a table of other orders."""
    lines: list[str] = []
    series, level = {}, {}
    for phase in PHASES:
        drawn = found.scored(phase, lambda line: line["how"] == "fixed")
        unchanged = found.unchanged(phase)
        if not drawn or unchanged is None:
            continue
        blocks = len(drawn[0].labels["order"])
        points = [(one.labels["fixed_points"], score) for one in drawn for score in one.scores]
        series[phase] = [*points, *((blocks, score) for score in unchanged.scores)]
        level[phase] = unchanged.mean
        rows = _by(drawn, "fixed_points")
        lines += [f"### {phase}", "", f"Unchanged: {found.metric} {unchanged.mean:.4f}.", ""]
        lines += [*markdown_table(["blocks in their place", "orders", "mean", "least", "most", "change"], rows), ""]
    if series:
        file = f"{found.name}.png"
        plots.curves(
            folder / file,
            series,
            axes_names=("blocks in their place", found.metric),
            title="shuffled blocks",
            level=level,
        )
        lines = [f"![]({file})", "", *lines]
    for phase in PHASES:
        others = found.scored(phase, lambda line: line["how"] != "fixed")
        if others:
            lines += [f"### Other orders, {phase}", "", *_order_table(others), ""]
    return lines


def distance_means(pairs: Sequence[Scored]) -> dict[int, float]:
    """The mean change of the score by how far the two blocks stand apart."""
    groups: dict[int, list[float]] = {}
    for one in pairs:
        groups.setdefault(one.labels["distance"], []).append(one.change)
    return {distance: float(np.mean(values)) for distance, values in sorted(groups.items())}


def _pair_map(file: Path, pairs: Sequence[Scored], unchanged: Scored, title: str) -> None:
    count = 1 + max(max(one.labels["blocks"]) for one in pairs)
    count = max(count, *(len(one.labels["order"]) for one in pairs))
    values = np.full((count, count), np.nan)
    np.fill_diagonal(values, unchanged.mean)
    for one in pairs:
        first, last = one.labels["blocks"]
        values[first, last] = values[last, first] = one.mean
    names = list(map(str, range(count)))
    plots.heat_map(file, values, rows=names, columns=names, title=title, axes_names=("block", "block"), digits=3)


def _by_distance(pairs: Sequence[Scored]) -> list[str]:
    return markdown_table(["distance", "pairs", "mean", "least", "most", "change"], _by(pairs, "distance"))


def _by(scored: Sequence[Scored], label: str) -> list[list[object]]:
    groups: dict[int, list[Scored]] = {}
    for one in scored:
        groups.setdefault(one.labels[label], []).append(one)
    rows = []
    for value, group in sorted(groups.items()):
        means = [one.mean for one in group]
        change = float(np.mean([one.change for one in group]))
        rows.append([value, len(group), float(np.mean(means)), min(means), max(means), change])
    return rows


def _order_table(scored: Sequence[Scored]) -> list[str]:
    rows = [
        [" ".join(map(str, one.labels["order"])), one.labels["fixed_points"], one.mean, one.std, one.change]
        for one in scored
    ]
    return markdown_table(["order", "fixed points", "mean", "std", "change"], rows)
