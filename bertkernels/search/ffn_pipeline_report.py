"""What the whole search led to: the found student beside those it is compared with."""

import json
from pathlib import Path as File

import numpy as np

from bertkernels.search.ffn_pipeline import FOUND, LABELS, PLAIN
from bertkernels.search.report import REPORT, REPORT_JSON
from bertkernels.training.results_file import write_json

_WORDS = {
    FOUND: "found, distilled",
    PLAIN: "plain feed-forward layers of the same shapes, distilled",
    LABELS: "found, from random weights on labels alone",
}


def write_pipeline_report(folder: File, content: dict) -> None:
    """Writes Markdown and JSON.

    Args:
        content: what `Pipeline.run` returns.
    """
    write_json(folder / REPORT_JSON, content)
    (folder / REPORT).write_text("\n".join([*report_lines(content), *_details(folder, content)]), encoding="utf-8")


def report_lines(content: dict) -> list[str]:
    """The table of students, and what it says."""
    students = content["students"]
    seeds = list(students[FOUND]["scores"])
    metric = students[FOUND].get("main_metric", "score")
    head = ["student", "parameters", *(f"seed {seed}" for seed in seeds), "mean", "std"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, words in _WORDS.items():
        values = np.array(list(students[name]["scores"].values()), dtype=np.float64)
        std = f"{values.std(ddof=1):.4f}" if len(values) > 1 else ""
        cells = [words, f"{students[name]['parameters']:,}", *(f"{value:.4f}" for value in values)]
        rows.append([*cells, f"{values.mean():.4f}", std])
    return [
        "# EfficientBERT's search",
        "",
        f"Students by {metric} on the task's evaluation rows; parameters of the encoder, with a pooler if it has one.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(_difference(students, other, seeds) for other in (PLAIN, LABELS)),
        "",
    ]


def _difference(students: dict, other: str, seeds: list[str]) -> str:
    """Found minus the other, over the seeds that both were trained with."""
    found, values = (np.array([students[name]["scores"][seed] for seed in seeds]) for name in (FOUND, other))
    each = found - values
    spread = f", standard deviation {each.std(ddof=1):.4f} over {len(each)} seeds" if len(each) > 1 else " of one seed"
    return f"- {_WORDS[FOUND]}, minus {_WORDS[other]}: {each.mean():+.4f}{spread}."


def _details(folder: File, content: dict) -> list[str]:
    texts = "\n".join(content["genotype"])
    stages = [f"- [stage {stage}](stage{stage}/{REPORT})" for stage in (1, 2, 3)]
    settings = json.dumps(content["settings"], indent=2)
    return [
        "## Found",
        "",
        "```",
        texts,
        "```",
        "",
        f"`bertkernels convert {folder}/supernet STUDENT --genotype {folder}/stage3/genotype.json` cuts it out of the "
        "supernet, with `--inherit PRESET` for another size.",
        "",
        *stages,
        "",
        "## Settings",
        "",
        "```json",
        settings,
        "```",
        "",
    ]
