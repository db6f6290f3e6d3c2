"""Heat maps, curves and bars."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.use("Agg")
_DPI = 100


def heat_map(
    file: Path,
    values: np.ndarray,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    axes_names: tuple[str, str],
    digits: int = 2,
) -> None:
    """values [R, C], NaN for what there is none of; each with its number."""
    height, width = values.shape
    figure = Figure(figsize=(2.2 + 0.5 * width, 1.3 + 0.38 * height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    low, high = np.nanmin(values), np.nanmax(values)
    if max(width, height) <= 16:
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                dark = high > low and (value - low) / (high - low) < 0.6
                colour = "white" if dark else "black"
                axes.text(
                    column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize="x-small", color=colour
                )
    axes.set_xticks(range(width), columns, fontsize="small")
    axes.set_yticks(range(height), rows, fontsize="small")
    axes.set_ylabel(axes_names[0])
    axes.set_xlabel(axes_names[1])
    axes.set_title(title, fontsize="medium")
    figure.colorbar(image)
    figure.savefig(file, dpi=_DPI)


def curves(
    file: Path,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    axes_names: tuple[str, str],
    title: str,
    level: Mapping[str, float] | None = None,
) -> None:
    """Points (x, y) of each series, and a line through the means of those with the same x.

    Args:
        level: a horizontal line for some series, in their colour.
    """
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(series.items()):
        colour = f"C{number % 10}"
        x, y = np.array(points, dtype=np.float64).T
        axes.scatter(x, y, s=10, alpha=0.4, color=colour)
        places = np.unique(x)
        axes.plot(places, [y[x == place].mean() for place in places], color=colour, label=name)
        if level and name in level:
            axes.axhline(level[name], color=colour, linestyle=":", linewidth=1)
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.set_title(title, fontsize="medium")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=_DPI)


def bars(
    file: Path,
    series: Mapping[str, Sequence[float]],
    *,
    places: Sequence[str],
    axes_names: tuple[str, str],
    title: str,
    level: float | None = None,
) -> None:
    """A group of bars for each place, one of each series; NaN leaves one out. `level`: a horizontal line."""
    width = 0.8 / max(1, len(series))
    figure = Figure(figsize=(max(5.0, 1.5 + 0.14 * len(places) * (len(series) + 2)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(series.items()):
        x = np.arange(len(places)) - 0.4 + (number + 0.5) * width
        axes.bar(x, values, width, label=name, color=matplotlib.colormaps["tab20"](number % 20))
    if level is not None:
        axes.axhline(level, color="black", linestyle=":", linewidth=1)
    axes.set_xticks(range(len(places)), places, fontsize="small")
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.set_title(title, fontsize="medium")
    if len(series) > 1:
        axes.legend(fontsize="x-small", ncols=1 + (len(series) > 6), loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=_DPI)
