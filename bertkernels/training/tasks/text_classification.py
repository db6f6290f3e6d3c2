"""Classification and regression of sentences and sentence pairs."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import datasets
import numpy as np
from transformers import (
    AutoModelForSequenceClassification,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from bertkernels.data.glue_leaderboard import write_answers
from bertkernels.data.labelled_text import LabelledText
from bertkernels.data.tasks import Task
from bertkernels.data.text_features import text_features
from bertkernels.errors import InputError
from bertkernels.training.metrics import classification_metrics, regression_metrics
from bertkernels.training.tasks.padding import padding_collator
from bertkernels.training.tasks.task import FinetuningTask, Split


class TextClassification(FinetuningTask[LabelledText]):
    """One label, or one number, for a sentence or a pair of them.

    Args:
        label_scale: in regression the model learns labels divided by this; what comes out is multiplied by it.
    """

    auto_model = AutoModelForSequenceClassification

    def __init__(self, task: Task, label_scale: float = 1.0) -> None:
        self.name, self.metric, self.labels = task.name, task.metric, task.labels
        self.train, self.evaluation, self.test = task.train, task.evaluation, task.test
        self._task, self._scale = task, label_scale
        if not label_scale > 0:
            raise InputError(f"--label_scale must be above 0, not {label_scale}")

    def describe(self) -> str:
        return "regression" if self.labels is None else ", ".join(self.labels)

    def configure(self, config: PreTrainedConfig) -> None:
        if self.labels is None:
            config.num_labels = 1
            config.problem_type = "regression"
            config.label_scale = self._scale
        else:
            config.id2label = dict(enumerate(self.labels))
            config.label2id = {label: number for number, label in enumerate(self.labels)}
            config.problem_type = "single_label_classification"

    def adopt(self, config: PreTrainedConfig) -> None:
        if config.num_labels == 1:
            if self.labels:
                raise InputError(f"the model predicts a number, {self.name} asks for {self.describe()}")
            self.labels, self._scale = None, getattr(config, "label_scale", 1.0)
            return
        names = [config.id2label[number] for number in range(config.num_labels)]
        if names == [f"LABEL_{number}" for number in range(len(self.labels or ()))]:
            names = self.labels  # the model has no names for them; the order of their ids is the usual one
        written = {label.lower(): label for label in self.labels or ()}
        names = [written.get(name.lower(), name) for name in names]
        if self.labels is None or (self.labels and sorted(self.labels) != sorted(names)):
            raise InputError(f"the model predicts {', '.join(names)}, {self.name} asks for {self.describe()}")
        self.labels = names

    def part(self, rows: LabelledText, begin: int, end: int) -> LabelledText:
        return LabelledText(**{name: values and values[begin:end] for name, values in vars(rows).items()})

    def encode(
        self, rows: LabelledText, tokenizer: PreTrainedTokenizerBase, max_length: int, training: bool
    ) -> datasets.Dataset:
        features = text_features(rows.firsts, rows.seconds, tokenizer, max_length, self.workers)
        if rows.labels is None:
            return features
        targets = self._task.targets(rows)
        if self.labels is None:
            targets = [target / self._scale for target in targets]
        return features.add_column("label", targets)

    def collator(self, tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> Callable:
        return padding_collator(tokenizer, max_length, few_widths)

    def metrics(self, split: Split[LabelledText], outputs: EvalPrediction) -> dict[str, float]:
        found, labels = _scores(outputs), outputs.label_ids
        if self.labels is None:
            metrics = regression_metrics(found.reshape(-1) * self._scale, labels.reshape(-1) * self._scale)
        else:
            metrics = classification_metrics(np.argmax(found, axis=-1), labels, len(self.labels))
        if self._task.combined:
            metrics["combined_score"] = sum(metrics[name] for name in self._task.combined) / len(self._task.combined)
        return metrics

    def baselines(self, rows: LabelledText) -> dict[str, float]:
        if self.labels is None:
            return {}
        return {"majority_accuracy": max(Counter(rows.labels).values()) / len(rows)}

    def write_predictions(
        self, folder: Path, name: str, split: Split[LabelledText], outputs: EvalPrediction
    ) -> list[Path]:
        """For a task of GLUE the leaderboard's file, `NAME.tsv`; else `NAME_predictions.tsv` with each row's index, its
        label and that label's probability, or its number."""
        found = _scores(outputs)
        if self.labels is None:
            answers = [float(value) for value in found.reshape(-1) * self._scale]
        else:
            answers = [self.labels[number] for number in np.argmax(found, axis=-1)]
        if self._task.glue:
            path = folder / f"{name}.tsv"
            write_answers(path, split.rows.indices, answers)
            return [path]
        columns = [split.rows.indices, map(str, answers)]
        if self.labels is not None:
            columns.append(f"{value:.6f}" for value in _softmax(found).max(axis=-1))
        return [_write_tsv(folder / f"{name}_predictions.tsv", ["index", "prediction", "probability"], columns)]

    def write_probabilities(
        self, folder: Path, name: str, split: Split[LabelledText], outputs: EvalPrediction
    ) -> list[Path]:
        """`NAME_probabilities.tsv`: each row's index and the probability of each label."""
        if self.labels is None:
            return super().write_probabilities(folder, name, split, outputs)
        columns = [[f"{value:.6f}" for value in column] for column in _softmax(_scores(outputs)).T]
        path = folder / f"{name}_probabilities.tsv"
        return [_write_tsv(path, ["index", *self.labels], [split.rows.indices, *columns])]


def _scores(outputs: EvalPrediction) -> np.ndarray:
    """The head's outputs [N, labels]; some models return more beside them."""
    return outputs.predictions[0] if isinstance(outputs.predictions, tuple) else outputs.predictions


def _softmax(scores: np.ndarray) -> np.ndarray:
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def _write_tsv(path: Path, header: list[str], columns: list[Iterable[str]]) -> Path:
    lines = ["\t".join(header[: len(columns)]), *("\t".join(row) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
