"""The report's plots, as SVG text."""

import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

STOCK, OURS, MUTED = "#9aa5b1", "#0f766e", "#cbd2d9"
_SECOND = "#b45309"
LABELS = {
    "stock": "Hugging Face",
    "patched": "patched",
    "unpad": "patched, unpad=True",
    "stock compiled": "Hugging Face,\ncompiled",
    "patched compiled": "patched,\ncompiled",
}
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#7b8794",
    "axes.labelcolor": "#3e4c59",
    "xtick.color": "#3e4c59",
    "ytick.color": "#3e4c59",
    "axes.titlesize": 9.5,
    "axes.titlecolor": "#1f2933",
    "axes.titlelocation": "left",
    "svg.hashsalt": "bertkernels",
    "svg.fonttype": "path",
}
_SIDE_BY_SIDE = (7.6, 2.5)  # inches


def milliseconds(microseconds: float) -> str:
    """Three digits, never in powers of ten."""
    value = microseconds / 1000
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def speeds(modes: dict[str, dict]) -> str:
    """Bars of median times, one panel a mode. `modes`: mode → {"times": {name: quantiles in microseconds}}."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIDE_BY_SIDE, layout="constrained")
        for axes, (mode, measured) in zip(figure.subplots(1, len(modes), squeeze=False)[0], modes.items(), strict=True):
            _speed_bars(axes, mode, measured["times"])
        return _svg(figure)


def _speed_bars(axes: Axes, mode: str, times: dict[str, dict]) -> None:
    names = list(times)[::-1]
    medians = [times[name]["p50"] / 1000 for name in names]
    spread = [
        [max(0.0, times[name]["p50"] - times[name]["p20"]) / 1000 for name in names],
        [max(0.0, times[name]["p80"] - times[name]["p50"]) / 1000 for name in names],
    ]
    colors = [OURS if name.startswith("patched") else STOCK for name in names]
    axes.barh(
        [LABELS[name] for name in names],
        medians,
        xerr=spread,
        color=colors,
        height=0.62,
        ecolor="#52606d",
        error_kw={"lw": 0.8},
    )
    for place, median in enumerate(medians):
        axes.text(median * 0.02, place, milliseconds(median * 1000) + " ms", va="center", color="white", fontsize=8.5)
    axes.set_title(f"{mode}: milliseconds a batch")
    axes.tick_params(left=False)


def losses(log: list[dict]) -> str:
    """Pre-training: loss and accuracy over steps."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIDE_BY_SIDE, layout="constrained")
        left, right = figure.subplots(1, 2)
        steps = [entry["step"] for entry in log]
        left.plot(steps, [entry["loss"] for entry in log], color=_SECOND)
        left.set_title("loss on masked words")
        right.plot(steps, [entry["masked_lm_accuracy"] for entry in log], color=OURS)
        right.set_title("masked words guessed right")
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.grid(axis="y", color="#e4e7eb")
        return _svg(figure)


def accuracies(majority: float, from_scratch: float, pretrained: float, logs: dict[str, list[dict]]) -> str:
    """Fine-tuning: accuracies as bars, and the training losses of both runs."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIDE_BY_SIDE, layout="constrained")
        left, right = figure.subplots(1, 2)
        names = ["most frequent\nclass", "without\npre-training", "pre-trained"]
        values = [majority, from_scratch, pretrained]
        left.bar(names, values, color=[MUTED, STOCK, OURS], width=0.6)
        for place, value in enumerate(values):
            left.text(place, value, f"{value:.1%}", ha="center", va="bottom")
        left.set_ylim(0, min(1.0, max(values) * 1.25))
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        left.set_title("accuracy on unseen files")
        for name, label, color in (
            ("from_scratch", "without pre-training", STOCK),
            ("pretrained", "pre-trained", OURS),
        ):
            log = logs[name]
            right.plot([entry["step"] for entry in log], [entry["loss"] for entry in log], color=color, label=label)
        right.set_title("loss on the labelled examples")
        right.set_xlabel("step")
        right.grid(axis="y", color="#e4e7eb")
        right.legend(frameon=False)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Creator": None, "Date": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # without the XML header, which names a DTD on the web
