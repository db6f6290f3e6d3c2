"""Probabilities of a task's labels, kept for ensembles."""

from pathlib import Path

import numpy as np
from transformers import EvalPrediction

from bertkernels.analysis.results import PREDICTIONS


def save_predictions(folder: Path, job: str, split: str, outputs: EvalPrediction) -> None:
    """Writes each row's probabilities [N, labels] and label [N] as an npz file, where outputs are of that sort."""
    scores = outputs.predictions[0] if isinstance(outputs.predictions, tuple) else outputs.predictions
    labels = np.asarray(outputs.label_ids) if not isinstance(outputs.label_ids, tuple) else np.empty((0, 0))
    if scores.ndim != 2 or scores.shape[1] < 2 or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return
    grown = np.exp(scores - scores.max(-1, keepdims=True, initial=-np.inf))
    (folder / PREDICTIONS).mkdir(exist_ok=True)
    np.savez_compressed(
        _file(folder, job, split), probabilities=grown / grown.sum(-1, keepdims=True), labels=labels.astype(np.int64)
    )


def read_predictions(folder: Path, job: str, split: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(probabilities [N, labels], labels [N]) of a job; None where none were kept."""
    file = _file(folder, job, split)
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as found:
        return found["probabilities"], found["labels"]


def _file(folder: Path, job: str, split: str) -> Path:
    return folder / PREDICTIONS / f"{job}_{split}.npz"
