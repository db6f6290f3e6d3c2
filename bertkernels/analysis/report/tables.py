"""Tables, as Markdown and as CSV."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

from bertkernels.analysis.report.found import Found


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table, numbers on the right; None is an empty cell, fractions have four digits."""
    numeric = [all(isinstance(row[column], (int, float, type(None))) for row in rows) for column in range(len(head))]
    rule = ["---:" if right else "---" for right in numeric]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *([_cell(value) for value in row] for row in rows))]


def write_csv(file: Path, found: Sequence[Found]) -> None:
    """Every line of every experiment; what is a list or has parts is JSON, but metrics, which are columns."""
    rows = []
    for one in found:
        for line in one.lines:
            plain = {name: value for name, value in line.items() if name not in ("metrics", "changes")}
            metrics = {f"metric_{name}": value for name, value in line.get("metrics", {}).items()}
            rows.append({"folder": one.name, **plain, **metrics})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    written = file.with_name(f".{file.name}.{os.getpid()}")
    with open(written, "w", encoding="utf-8", newline="") as text:
        table = csv.DictWriter(text, columns, restval="")
        table.writeheader()
        table.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    os.replace(written, file)


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    return json.dumps(value) if isinstance(value, (list, dict)) else value
