"""The pages that show results: short tables and the picture on one, all tables on another."""

import os
from collections.abc import Iterable
from pathlib import Path

from . import limits_table
from .details import details
from .report import LIMITS, update
from .results import Row
from .summary import summary


def write(rows: Iterable[Row], short: Path | None = None, full: Path | None = None, plot: Path | None = None) -> str:
    """Replaces what stands between the markers of these pages, and draws; returns what the short page shows.

    Args:
        short: the page of short tables and the picture, such as README.md.
        full: the page of all tables and limits, to which the short one refers.
        plot: the picture for light pages; see `plot.draw`.

    Raises:
        InputError: a page cannot be read or has no markers, or there is nothing to draw.
    """
    rows, folder, picture = list(rows), short.parent if short else Path(), None
    if plot is not None:
        from .plot import draw, markup

        picture = markup(*(_link(path, folder) for path in draw(rows, plot)))
    text = summary(rows, picture, None if full is None else _link(full, folder))
    if short is not None:
        update(short, text)
    if full is not None:
        update(full, details(rows))
        update(full, limits_table.markdown(rows), LIMITS)
    return text


def _link(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
