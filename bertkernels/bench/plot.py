"""One picture of the README's cases, for light and for dark pages: how many times as fast as Hugging Face's code."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bertkernels.errors import InputError

from . import ENCODERS
from .case import BOTH, FORWARD
from .comparison import Comparison
from .op_bench import HUGGING_FACE, HUGGING_FACE_COMPILED
from .results import Row
from .summary import main_cases

# The page shows through: text, grid and marks stand out from the page that a theme is for.
THEMES = {
    "light": {"page": "#ffffff", "ink": "#1f2328", "grid": "#d1d9e0", "ours": "#0969da", "others": "#bc4c00"},
    "dark": {"page": "#0d1117", "ink": "#e6edf3", "grid": "#3d444d", "ours": "#58a6ff", "others": "#f0883e"},
}
_OURS, _OTHERS, _FLOOR = "bertkernels", "other ways of the same work", "the part of the work that nobody can leave out"
_KINDS = {  # marker, color, filled
    _OURS: ("o", "ours", True),
    HUGGING_FACE_COMPILED: ("D", "others", True),
    _OTHERS: ("s", "others", False),
    _FLOOR: ("|", "ink", True),
}


def draw(rows: Iterable[Row], path: Path) -> tuple[Path, Path]:
    """Writes two pictures, `path` (.svg or .png) for light pages and one named -dark beside it for dark ones.

    Raises InputError where no row can be compared with Hugging Face's code, or the path ends otherwise.
    """
    if path.suffix not in (".svg", ".png"):
        raise InputError(f"{path}: expected a picture's name that ends in .svg or .png")
    cases = [case for case in main_cases(rows) if HUGGING_FACE in case.whole and len(case.rows) > 1]
    if not cases:
        raise InputError("nothing to plot: no result stands beside one of Hugging Face's code")
    dark = path.with_name(f"{path.stem}-dark{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    for theme, file in (("light", path), ("dark", dark)):
        _draw(cases, file, theme)
    return path, dark


def markup(light: str, dark: str) -> str:
    """The HTML, as Markdown pages take it, that shows the picture that suits the reader's page; both are links."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="speed compared with Hugging Face" src="{light}"></picture>'
    )


def _draw(cases: Sequence[Comparison], path: Path, theme: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colors = THEMES[theme]
    style = {
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), colors["ink"]
        ),
        **{"axes.facecolor": "none", "savefig.transparent": True, "grid.color": colors["grid"], "font.size": 9},
        **{"svg.fonttype": "none", "svg.hashsalt": "bertkernels", "legend.frameon": False},
    }
    several = len({case.row["device_name"] for case in cases}) > 1
    named = [(_line(case, several), case) for case in cases]
    lines = list(dict.fromkeys(line for line, _ in named))
    with matplotlib.rc_context(style):
        figure, panels = pyplot.subplots(
            1, 2, sharex=True, sharey=True, figsize=(10, 1.6 + 0.22 * len(lines)), layout="constrained"
        )
        for mode, axes in zip((FORWARD, BOTH), panels, strict=True):
            _panel(axes, [(lines.index(line), case) for line, case in named if case.row["mode"] == mode], lines, colors)
            axes.set_title(mode, fontsize=10)
        handles = {mark.get_label(): mark for axes in panels for mark in axes.collections}
        figure.legend(handles=list(handles.values()), loc="outside upper center", ncols=len(_KINDS))
        figure.supxlabel("times as fast as Hugging Face's code", fontsize=9)
        # no date and no version inside: the same results give the same file
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
        pyplot.close(figure)


def _panel(axes, cases: Sequence[tuple[int, Comparison]], lines: list[str], colors: dict[str, str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    marks: dict[str, list[tuple[float, int]]] = {kind: [] for kind in _KINDS}
    for line, case in cases:
        for kind, time in _times(case):
            marks[kind].append((case.whole[HUGGING_FACE] / time, line))
    for kind, (marker, color, filled) in _KINDS.items():
        if marks[kind]:
            x, y = zip(*marks[kind], strict=True)
            face = colors[color] if filled else "none"
            edge = {} if marker == "|" else {"facecolors": face, "edgecolors": colors[color]}
            axes.scatter(x, y, s=36, marker=marker, label=kind, zorder=3, **(edge or {"color": colors[color]}))
    axes.axvline(1, color=colors["ink"], linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.grid()


def _times(case: Comparison) -> Iterator[tuple[str, float]]:
    """Kind of mark, and time, of what stands beside Hugging Face's code."""
    for peer, time in case.whole.items():
        if peer != HUGGING_FACE:
            yield _OURS if peer == case.ours else peer if peer in _KINDS else _OTHERS, time
    if case.floor is not None:
        yield _FLOOR, case.floor


def _line(case: Comparison, with_machine: bool) -> str:
    what = f"ConvBERT {case.row['text'] or ''}".strip() if case.row["op"] in ENCODERS else case.row["op"]
    return f"{what} {case.row['size']}" + (f", {case.row['device_name']}" if with_machine else "")
