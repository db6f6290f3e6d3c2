"""What came out of training plans alone, as Markdown, JSON and a plot."""

import json
from dataclasses import asdict
from pathlib import Path as File

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bertkernels.search.rank_correlation import RankCorrelation, rank_correlation
from bertkernels.training.results_file import write_json

matplotlib.use("Agg")

REPORT, REPORT_JSON, PLOT = "verification.md", "verification.json", "verification.png"


def write_verification(
    folder: File,
    metric: str,
    plans: dict[str, str],
    inherited: dict[str, float],
    alone: dict[str, dict[int, float]],
    settings: dict,
) -> dict:
    """Writes the report and returns what the JSON has.

    Args:
        plans: texts by name. inherited: fitness by name. alone: by name and seed.
        settings: of the runs, for the reader.
    """
    names = list(plans)
    values = np.array([[*alone[name].values()] for name in names])  # [plans, seeds]
    correlation = rank_correlation(np.array([inherited[name] for name in names]), values)
    rows = [
        {
            "name": name,
            "plan": plans[name],
            "inherited": inherited[name],
            "alone": alone[name],
            "alone_mean": float(row.mean()),
            "alone_std": float(row.std(ddof=1)) if len(row) > 1 else None,
        }
        for name, row in zip(names, values, strict=True)
    ]
    content = {"metric": metric, "plans": rows, "correlation": asdict(correlation), "settings": settings}
    folder.mkdir(parents=True, exist_ok=True)
    _plot(folder / PLOT, rows, metric, correlation)
    write_json(folder / REPORT_JSON, content)
    (folder / REPORT).write_text(_markdown(content, values), encoding="utf-8")
    return content


def summary_lines(content: dict) -> list[str]:
    """The correlation in words, and how large the spread over seeds is beside that over plans."""
    lines = []
    for name, symbol in (("spearman", "Spearman's ρ"), ("kendall", "Kendall's τ")):
        value, interval = content["correlation"][name], content["correlation"][f"{name}_interval"]
        if value is None:
            lines.append(f"{symbol}: not defined (fewer than three plans, or all alike)")
        else:
            lines.append(f"{symbol} = {value:.2f} (95% interval {interval[0]:.2f} to {interval[1]:.2f})")
    return lines


def _markdown(content: dict, values: np.ndarray) -> str:
    metric, rows = content["metric"], content["plans"]
    seeds = [str(seed) for seed in rows[0]["alone"]]
    ranked = sorted(rows, key=lambda row: -row["alone_mean"])
    head = ["plan", "inherited", *(f"seed {seed}" for seed in seeds), "mean", "std", "rank inherited", "rank alone"]
    by_inherited = sorted(rows, key=lambda row: -row["inherited"])
    table = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in ranked:
        std = "" if row["alone_std"] is None else f"{row['alone_std']:.4f}"
        each = [f"{value:.4f}" for value in row["alone"].values()]
        ranks = [str(by_inherited.index(row) + 1), str(ranked.index(row) + 1)]
        table.append([row["name"], f"{row['inherited']:.4f}", *each, f"{row['alone_mean']:.4f}", std, *ranks])
    lines = [
        "# Plans trained alone",
        "",
        f"{metric} on held-out text: with weights inherited from the supernet, and trained alone with equal budgets"
        f" ({len(seeds)} seeds).",
        "",
        *(f"| {' | '.join(row)} |" for row in table),
        "",
        *(f"- {line}" for line in summary_lines(content)),
    ]
    if len(seeds) > 1 and len(rows) > 1:
        within = float(np.sqrt(values.var(axis=1, ddof=1).mean()))
        between = float(values.mean(axis=1).std(ddof=1))
        lines.append(
            f"- Spread over seeds {within:.4f} (root mean of the variances), of the plans' means {between:.4f}: what "
            "differs by less than the first says little."
        )
    lines += ["", f"![]({PLOT})", "", "## Plans", ""]
    lines += [f'- {row["name"]}: `--plan "{row["plan"]}"`' for row in rows]
    lines += ["", "## Runs", "", "```json", json.dumps(content["settings"], indent=2), "```", ""]
    return "\n".join(lines)


def _plot(file: File, rows: list[dict], metric: str, correlation: RankCorrelation) -> None:
    figure = Figure(figsize=(6.5, 5), layout="constrained")
    axes = figure.add_subplot()
    for number, row in enumerate(rows):
        values = list(row["alone"].values())
        x = [row["inherited"]] * len(values)
        axes.scatter(x, values, s=14, color=f"C{number % 10}", alpha=0.5)
        axes.plot(row["inherited"], row["alone_mean"], "_", markersize=16, color=f"C{number % 10}", label=row["name"])
    axes.set_xlabel(f"{metric}, inherited")
    axes.set_ylabel(f"{metric}, trained alone (each seed, mean)")
    if correlation.spearman is not None:
        low, high = correlation.spearman_interval
        axes.set_title(f"Spearman's ρ {correlation.spearman:.2f} ({low:.2f} to {high:.2f})", fontsize="medium")
    axes.legend(fontsize="x-small")
    figure.savefig(file, dpi=120)
