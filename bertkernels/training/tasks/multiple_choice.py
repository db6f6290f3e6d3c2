"""Multiple choice: SWAG, RACE and sets like them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import AutoModelForMultipleChoice, EvalPrediction, PreTrainedConfig, PreTrainedTokenizerBase

from bertkernels.data.choices import ChoiceQuestion, ChoiceQuestions, read_choices, read_choices_hub
from bertkernels.errors import InputError
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.tasks.padding import padding_arguments
from bertkernels.training.tasks.task import FinetuningTask, Split

_LENGTHS = {"swag": 128, "race": 512, "multiple_choice": 128}
CHOICE_TASKS = tuple(_LENGTHS)
_ENCODED_AT_ONCE = 1000  # questions, whose tokens are lists of Python's numbers until they are in Arrow


class MultipleChoice(FinetuningTask[ChoiceQuestions]):
    """The right one of several answers; the metric is `accuracy`."""

    auto_model = AutoModelForMultipleChoice
    metric = "accuracy"

    def __init__(
        self,
        name: str,
        train: ChoiceQuestions | None = None,
        evaluation: dict[str, ChoiceQuestions] | None = None,
        test: dict[str, ChoiceQuestions] | None = None,
    ) -> None:
        self.name, self.train, self.max_length = name, train, _LENGTHS[name]
        self.evaluation, self.test = evaluation or {}, test or {}

    def describe(self) -> str:
        rows = self.train or next(iter((*self.evaluation.values(), *self.test.values())))
        return f"one of {len(rows.questions[0].choices)}"

    def configure(self, config: PreTrainedConfig) -> None:
        """Nothing: the head gives every choice one score, however many there are."""

    def part(self, rows: ChoiceQuestions, begin: int, end: int) -> ChoiceQuestions:
        return rows.part(begin, end)

    def encode(
        self, rows: ChoiceQuestions, tokenizer: PreTrainedTokenizerBase, max_length: int, training: bool
    ) -> datasets.Dataset:
        """Lists with one sequence a choice: [CLS] context [SEP] choice [SEP]; the longer is cut first."""
        parts = (
            self._encode(rows.questions[begin : begin + _ENCODED_AT_ONCE], tokenizer, max_length)
            for begin in range(0, len(rows), _ENCODED_AT_ONCE)
        )
        return datasets.concatenate_datasets(list(parts))

    def _encode(
        self, questions: list[ChoiceQuestion], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> datasets.Dataset:
        width = len(questions[0].choices)
        contexts = [question.context for question in questions for _ in range(width)]
        choices = [choice for question in questions for choice in question.choices]
        flat = tokenizer(contexts, choices, truncation="longest_first", max_length=max_length)
        columns = {
            name: [values[begin : begin + width] for begin in range(0, len(values), width)]
            for name, values in flat.items()
        }
        if questions[0].answer is not None:
            columns["labels"] = [question.answer for question in questions]
        return datasets.Dataset.from_dict(columns)

    def collator(self, tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> Callable:
        return ChoiceCollator(tokenizer, max_length, few_widths)

    def metrics(self, split: Split[ChoiceQuestions], outputs: EvalPrediction) -> dict[str, float]:
        true = np.array([question.answer for question in split.rows.questions])
        return {"accuracy": float(np.mean(_best(outputs) == true))}

    def baselines(self, rows: ChoiceQuestions) -> dict[str, float]:
        counts = Counter(question.answer for question in rows.questions)
        return {"majority_accuracy": max(counts.values()) / len(rows)}

    def write_evaluation(self, folder: Path, name: str, split: Split[ChoiceQuestions], outputs: EvalPrediction) -> None:
        self.write_predictions(folder, name, split, outputs)

    def write_predictions(
        self, folder: Path, name: str, split: Split[ChoiceQuestions], outputs: EvalPrediction
    ) -> list[Path]:
        """`NAME_predictions.tsv`: id, and the choice's number or letter as the set writes it."""
        lines = ["id\tanswer"]
        for question, choice in zip(split.rows.questions, _best(outputs).tolist(), strict=True):
            lines.append(f"{question.id}\t{question.names[choice]}")
        path = folder / f"{name}_predictions.tsv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        return [path]


class ChoiceCollator:
    """Pads the choices of a batch's questions to one length: [B, N, T] each, labels [B]."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> None:
        self._tokenizer, self._padding = tokenizer, padding_arguments(max_length, few_widths)

    def __call__(self, features: list[dict[str, list]]) -> dict[str, torch.Tensor]:
        names = [name for name in features[0] if name != "labels"]
        width = len(features[0]["input_ids"])
        flat = [{name: feature[name][i] for name in names} for feature in features for i in range(width)]
        padded = self._tokenizer.pad(flat, return_tensors="pt", **self._padding)
        batch = {name: values.view(len(features), width, -1) for name, values in padded.items()}
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch


def choice_task(arguments: FinetuneArguments) -> MultipleChoice:
    """The task that the flags of fine-tuning name. Raises InputError for flags that don't fit and for bad files."""
    name = arguments.task_name
    other = (arguments.glue_dir, arguments.text_source)
    if (arguments.train_file is None) == (arguments.dataset_name is None) or any(other):
        raise InputError(f"with --task_name {name} give one of --train_file and --dataset_name")
    if arguments.validation_file is not None and arguments.train_file is None:
        raise InputError("--validation_file goes with --train_file")
    if arguments.dataset_name:
        train, evaluation = read_choices_hub(arguments.dataset_name, arguments.dataset_config_name)
    else:
        train, evaluation = read_choices(arguments.train_file), {}
        if arguments.validation_file is not None:
            evaluation["dev"] = read_choices(arguments.validation_file)
    return MultipleChoice(name, train, evaluation)


def choices_to_predict(name: str, test_file: str) -> MultipleChoice:
    """The task of answering the questions in a file or folder, whose answers need not be known."""
    return MultipleChoice(name, test={"test": read_choices(test_file, labelled=False)})


def _best(outputs: EvalPrediction) -> np.ndarray:
    """The number of the choice with the highest score, int [N]."""
    scores = outputs.predictions[0] if isinstance(outputs.predictions, tuple) else outputs.predictions
    return np.argmax(scores, axis=-1)
