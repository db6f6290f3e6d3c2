"""What was found of tracked hidden states."""

from pathlib import Path

import numpy as np

from bertkernels.analysis.report import plots
from bertkernels.analysis.report.found import Found
from bertkernels.analysis.report.tables import markdown_table


def track_section(found: Found, folder: Path) -> list[str]:
    """How narrow the cones are, and how alike states are by CKA."""
    lines: list[str] = []
    for line in found.lines:
        names = line["states"]
        file = f"{found.name}_{line['split']}_cka.png"
        title = f"CKA, {line['tokens']:,} tokens"
        matrix = np.array(line["cka"])
        plots.heat_map(
            folder / file,
            matrix,
            rows=names,
            columns=names if len(names) < 9 else [""] * len(names),
            title=title,
            axes_names=("", ""),
        )
        rows = [list(row) for row in zip(names, line["cone_size"], line["mean_length"], strict=True)]
        lines += [f"### {line['split']}", "", f"![]({file})", ""]
        lines += [*markdown_table(["state", "cone size", "mean length"], rows), ""]
    return lines
