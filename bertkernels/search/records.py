"""Every evaluation as files that people can open: JSON lines and CSV, brought up to date from the study."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path as File

from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import Evaluation
from bertkernels.search.limits import Figures

JSON_LINES, CSV = "evaluations.jsonl", "evaluations.csv"


def write_records(
    folder: File,
    evaluations: Iterable[Evaluation],
    plan: Callable[[Path], str],
    figures: Callable[[Path], Figures],
) -> None:
    """Writes all evaluations, killed and failed ones too, in the order in which they were begun."""
    rows = [_row(evaluation, plan, figures) for evaluation in evaluations]
    _write(folder / JSON_LINES, "".join(f"{json.dumps(row)}\n" for row in rows))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="")
    table.writeheader()
    table.writerows(rows)
    _write(folder / CSV, text.getvalue())


def _row(evaluation: Evaluation, plan: Callable[[Path], str], figures: Callable[[Path], Figures]) -> dict:
    worker = evaluation.worker
    return {
        "number": evaluation.number,
        "state": evaluation.state,
        "fitness": evaluation.fitness,
        "plan": plan(evaluation.path),
        "origin": evaluation.origin,
        "name": evaluation.name,
        "why_failed": evaluation.why,
        "seconds": evaluation.seconds,
        "worker": f"{worker['machine'].split()[0]}:{worker['pid']}",
        **{name: value for name, value in asdict(figures(evaluation.path)).items() if value is not None},
        **evaluation.metrics,
    }


def _write(file: File, text: str) -> None:
    """Whole or not at all; a name of this process's own, for several machines may write."""
    written = file.with_name(f".{file.name}.{os.getpid()}")
    written.write_text(text, encoding="utf-8")
    os.replace(written, file)
