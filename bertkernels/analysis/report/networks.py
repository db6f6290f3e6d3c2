"""What was found of networks for comparison."""

from pathlib import Path

import numpy as np

from bertkernels.analysis.report import plots
from bertkernels.analysis.report.found import Found
from bertkernels.analysis.report.tables import markdown_table


def comparison_section(found: Found, folder: Path) -> list[str]:
    """A table of all networks, and curves of shuffles and of linearity."""
    rows, shuffles, linearity = [], {}, {}
    for line in found.lines:
        name = f"{line['name']}, seed {line['seed']}"
        adjacent = [swap["direct"] for swap in line.get("swaps", ()) if swap["blocks"][1] - swap["blocks"][0] == 1]
        far = [swap["direct"] for swap in line.get("swaps", ()) if swap["blocks"] == [0, line["layers"] - 2]]
        relu = [layer["relu"]["r2"] for layer in line.get("linearity", ())]
        rows.append([name, line["before"], _mean(adjacent), _mean(far), _mean(relu)])
        if line.get("shuffles"):
            points = [(one["fixed_points"], one["direct"]) for one in line["shuffles"]]
            shuffles[name] = [*points, (line["layers"] - 1, line["before"])]
        if relu:
            linearity[name] = [(layer["position"], layer["relu"]["r2"]) for layer in line["linearity"]]
    head = ["network", "accuracy", "adjacent swaps", "swap of first and last", "R² of layers, mean"]
    lines = [*markdown_table(head, rows), "", "The first layer, which has another shape, stays in its place.", ""]
    for what, series, names in (
        ("shuffles", shuffles, ("layers in their place", "accuracy")),
        ("linearity", linearity, ("layer", "R² of the linear probe, ReLU included")),
    ):
        if series:
            file = f"{found.name}_{what}.png"
            plots.curves(folder / file, series, axes_names=names, title=what)
            lines += [f"![]({file})", ""]
    return lines


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
