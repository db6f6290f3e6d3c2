"""What fine-tuning and prediction ask of a kind of task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import datasets
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedTokenizerBase

from bertkernels.errors import InputError

Rows = TypeVar("Rows", bound=Sized)  # a kind's own form of examples before they are features


@dataclass(frozen=True)
class Split(Generic[Rows]):
    """Rows, and the features made of them: what metrics and predictions of these rows are computed with."""

    rows: Rows
    features: datasets.Dataset


class FinetuningTask(ABC, Generic[Rows]):
    """One task: its rows by split, and how its kind turns them into features, a model, metrics and files.

    Attributes:
        name: for people.
        metric: the metric to compare models by, without a prefix.
        auto_model: transformers' Auto class of models with the kind's head.
        train: rows to train on, None where the task is there for predictions only.
        evaluation: rows with labels, by the name of their split.
        test: rows to predict, by the name of their split; their labels are unknown.
        max_length: tokens of an input at most, unless a flag says otherwise.
        workers: processes that make features, None: this one.
    """

    name: str
    metric: str
    auto_model: type
    train: Rows | None
    evaluation: dict[str, Rows]
    test: dict[str, Rows]
    max_length: int = 128
    workers: int | None = None

    @abstractmethod
    def describe(self) -> str:
        """What is asked for, in a few words: the label names, say."""

    @abstractmethod
    def configure(self, config: PreTrainedConfig) -> None:
        """Sets what the head depends on: number and names of labels, kind of loss."""

    def adopt(self, config: PreTrainedConfig) -> None:
        """Takes over what a fine-tuned model knows of its task, such as the labels' names and order, for predictions.

        Raises InputError for a model of another task.
        """

    @abstractmethod
    def part(self, rows: Rows, begin: int, end: int) -> Rows:
        """The rows from number `begin` to before `end`."""

    @abstractmethod
    def encode(
        self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int, training: bool
    ) -> datasets.Dataset:
        """Features of the rows, for training or for evaluation and prediction."""

    @abstractmethod
    def collator(self, tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> Callable:
        """What makes batches of features; with `few_widths` batches have one of few shapes (one CUDA graph each)."""

    @abstractmethod
    def metrics(self, split: Split[Rows], outputs: EvalPrediction) -> dict[str, float]:
        """Metrics of the model's outputs over the whole split, which is in its own order."""

    def baselines(self, rows: Rows) -> dict[str, float]:
        """Metrics that take no model, to compare with: the share of the most frequent label, say."""
        return {}

    def write_evaluation(self, folder: Path, name: str, split: Split[Rows], outputs: EvalPrediction) -> None:
        """Writes what there is to see of the evaluated split `name` beside its metrics; nothing unless a kind does."""

    def write_predictions(self, folder: Path, name: str, split: Split[Rows], outputs: EvalPrediction) -> list[Path]:
        """Writes predictions for the split `name` in the form their users expect; returns the files written.

        Raises InputError where the kind has no form for that.
        """
        raise InputError(f"predictions of {self.name} have no file format here")

    def write_probabilities(self, folder: Path, name: str, split: Split[Rows], outputs: EvalPrediction) -> list[Path]:
        """Writes each label's probability for the rows of the split `name`; returns the files written.

        Raises InputError where the kind has none.
        """
        raise InputError(f"there are no probabilities for {self.name}")
