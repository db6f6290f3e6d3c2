"""Classification and regression of sentences and sentence pairs."""

from collections import Counter
from collections.abc import Callable

import datasets
import numpy as np
from transformers import (
    AutoModelForSequenceClassification,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from bertkernels.data.labelled_text import LabelledText
from bertkernels.data.tasks import Task
from bertkernels.training.metrics import classification_metrics, regression_metrics
from bertkernels.training.tasks.padding import padding_collator
from bertkernels.training.tasks.task import FinetuningTask, Split


class TextClassification(FinetuningTask[LabelledText]):
    """One label, or one number, for a sentence or a pair of them."""

    auto_model = AutoModelForSequenceClassification

    def __init__(self, task: Task) -> None:
        self.name, self.metric, self.labels = task.name, task.metric, task.labels
        self.train, self.evaluation, self.test = task.train, task.evaluation, {}
        self._task = task

    def describe(self) -> str:
        return "regression" if self.labels is None else ", ".join(self.labels)

    def configure(self, config: PreTrainedConfig) -> None:
        if self.labels is None:
            config.num_labels = 1
            config.problem_type = "regression"
        else:
            config.id2label = dict(enumerate(self.labels))
            config.label2id = {label: number for number, label in enumerate(self.labels)}
            config.problem_type = "single_label_classification"

    def first(self, rows: LabelledText, count: int) -> LabelledText:
        return LabelledText(**{name: values and values[:count] for name, values in vars(rows).items()})

    def encode(
        self, rows: LabelledText, tokenizer: PreTrainedTokenizerBase, max_length: int, training: bool
    ) -> datasets.Dataset:
        encoded = tokenizer(rows.firsts, rows.seconds, truncation="longest_first", max_length=max_length)
        return datasets.Dataset.from_dict({**encoded, "label": self._task.targets(rows)})

    def collator(self, tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> Callable:
        return padding_collator(tokenizer, max_length, few_widths)

    def metrics(self, split: Split[LabelledText], outputs: EvalPrediction) -> dict[str, float]:
        scores = outputs.predictions[0] if isinstance(outputs.predictions, tuple) else outputs.predictions
        if self.labels is None:
            return regression_metrics(scores.reshape(-1), outputs.label_ids.reshape(-1))
        return classification_metrics(np.argmax(scores, axis=-1), outputs.label_ids, len(self.labels))

    def baselines(self, rows: LabelledText) -> dict[str, float]:
        if self.labels is None:
            return {}
        return {"majority_accuracy": max(Counter(rows.labels).values()) / len(rows)}
