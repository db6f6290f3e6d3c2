"""Votes of the models that an experiment fine-tuned."""

from collections.abc import Sequence

import numpy as np

from bertkernels.analysis.ensemble import vote
from bertkernels.analysis.jobs import FINETUNED
from bertkernels.analysis.predictions import read_predictions
from bertkernels.analysis.report.found import Found
from bertkernels.analysis.report.tables import markdown_table


def ensemble_section(found: Found) -> list[str]:
    """Of each trial with several seeds, and of all trials together: how often the vote is right."""
    groups: dict[str, list[dict]] = {}
    for line in found.lines:
        if line["phase"] == FINETUNED:
            groups.setdefault(line["name"], []).append(line)
    everything = [line for lines in groups.values() for line in lines]
    rows = [
        [name, len(lines), *accuracies]
        for name, lines in (*groups.items(), ("all of them", everything))
        if len(lines) > 1 and (accuracies := _accuracies(found, lines)) is not None
    ]
    if not rows:
        return []
    head = ["vote of", "models", "accuracy of the vote", "mean of its models"]
    return ["### Ensembles", "", *markdown_table(head, rows), ""]


def _accuracies(found: Found, lines: Sequence[dict]) -> tuple[float, float] | None:
    """Of the vote, and the mean of its models', over the rows of all splits; None where predictions are missing."""
    right, single = [], []
    for split in found.settings["evaluation"]:
        kept = [read_predictions(found.folder, line["job"], split) for line in lines]
        if any(one is None for one in kept):
            return None
        labels = kept[0][1]
        right.append(vote([probabilities for probabilities, _ in kept]) == labels)
        single.append(np.mean([probabilities.argmax(-1) == labels for probabilities, _ in kept], axis=0))
    return float(np.concatenate(right).mean()), float(np.concatenate(single).mean())
