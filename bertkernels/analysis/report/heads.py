"""What was found of heads."""

from pathlib import Path

from bertkernels.analysis.experiments.heads import MEASURES, importance_matrix, importance_table
from bertkernels.analysis.report import plots
from bertkernels.analysis.report.found import PHASES, Found
from bertkernels.analysis.report.tables import markdown_table


def heads_section(found: Found, folder: Path) -> list[str]:
    """A heat map for each measure, curves of cumulative masks, and what single heads reach."""
    lines: list[str] = []
    for measure in MEASURES:
        if not any(line.get("measure") == measure for line in found.lines):
            continue
        matrix = importance_matrix(importance_table(found.lines, measure))
        file = f"{found.name}_{measure}.png"
        plots.heat_map(
            folder / file,
            matrix,
            rows=list(map(str, range(matrix.shape[0]))),
            columns=list(map(str, range(matrix.shape[1]))),
            title=f"importance of heads: {measure}",
            axes_names=("block", "head"),
            digits=3,
        )
        lines += [f"![]({file})", ""]
    for phase in PHASES:
        masked = found.scored(phase, lambda line: "masked" in line)
        unchanged = found.unchanged(phase)
        if masked and unchanged is not None:
            series: dict[str, list[tuple[float, float]]] = {}
            for one in masked:
                name = f"{one.labels['ranked_by']}, {one.labels['direction']}"
                series.setdefault(name, [(0, unchanged.mean)]).append((one.labels["masked"], one.mean))
            file = f"{found.name}_{phase}_cumulative.png"
            plots.curves(
                folder / file,
                series,
                axes_names=("heads masked", found.metric),
                title=f"heads masked one after the other, {phase}",
            )
            lines += [f"![]({file})", ""]
        alone = found.scored(phase, lambda line: "best_by" in line)
        if alone:
            named = ("best_by", "block", "head")
            rows = [[*(one.labels[name] for name in named), one.mean, one.change] for one in alone]
            head = ["best by", "block", "head", found.metric, "change"]
            lines += [f"One head alone in its block, {phase}:", "", *markdown_table(head, rows), ""]
    return lines
