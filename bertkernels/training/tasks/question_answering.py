"""Extractive question answering: SQuAD 1.1, SQuAD 2.0, MRQA."""

import json
from collections.abc import Callable
from pathlib import Path

import datasets
from transformers import AutoModelForQuestionAnswering, EvalPrediction, PreTrainedConfig, PreTrainedTokenizerBase

from bertkernels.data.mrqa import read_mrqa
from bertkernels.data.question_features import WindowSizes, question_features
from bertkernels.data.questions import QuestionSet
from bertkernels.data.squad import read_squad, read_squad_hub
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.question_answering import EncoderForQuestionAnswering
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.question_answers import (
    AnswerSettings,
    QuestionAnswers,
    SpanOutputs,
    answer_questions,
    nbest_lists,
    predictions,
)
from bertkernels.training.question_arguments import QuestionArguments
from bertkernels.training.squad_metrics import squad_v1_metrics, squad_v2_metrics
from bertkernels.training.tasks.padding import padding_collator
from bertkernels.training.tasks.task import FinetuningTask, Split

QUESTION_TASKS = ("squad", "squad_v2", "mrqa")
_LABELS = ["start_positions", "end_positions", "is_impossible"]


class QuestionAnswering(FinetuningTask[QuestionSet]):
    """Questions on texts whose answers stand there, in squad_v2 perhaps not.

    Metrics are the official ones, in percent: `exact_match` and `f1`; of squad_v2 `exact`, `f1`, the same of questions
    with and without an answer, and the best that another threshold would give.
    """

    auto_model = AutoModelForQuestionAnswering
    metric = "f1"
    max_length = 512

    def __init__(
        self,
        name: str,
        arguments: QuestionArguments,
        train: QuestionSet | None = None,
        evaluation: dict[str, QuestionSet] | None = None,
        test: dict[str, QuestionSet] | None = None,
    ) -> None:
        self.name, self.train = name, train
        self.evaluation, self.test = evaluation or {}, test or {}
        self._unanswerable = name == "squad_v2"
        self._arguments = arguments
        self._tokenizer: PreTrainedTokenizerBase | None = None
        _check(arguments)

    def describe(self) -> str:
        return "questions, some without an answer" if self._unanswerable else "questions with an answer in the text"

    def configure(self, config: PreTrainedConfig) -> None:
        head, classifier = self._arguments.qa_head, self._arguments.answerable_classifier
        if config.model_type != EncoderConfig.model_type:
            if head == "joint" or classifier:
                flag = "--qa_head joint" if head == "joint" else "--answerable_classifier"
                raise InputError(f"{flag} needs an encoder of this package, not one of {config.model_type}")
            return
        tuned = EncoderForQuestionAnswering.__name__ in (config.architectures or [])  # it has a head already
        config.qa_head = head or (config.qa_head if tuned else "joint")
        needs = self._unanswerable and config.qa_head == "joint"
        if needs and classifier is False:
            raise InputError("squad_v2 with --qa_head joint needs its --answerable_classifier")
        config.answerable_classifier = (
            (needs or (tuned and config.answerable_classifier)) if classifier is None else classifier
        )
        config.beam_size = self._arguments.beam_size
        config.answerable_weight = self._arguments.answerable_weight

    def part(self, rows: QuestionSet, begin: int, end: int) -> QuestionSet:
        return rows.part(begin, end)

    def encode(
        self, rows: QuestionSet, tokenizer: PreTrainedTokenizerBase, max_length: int, training: bool
    ) -> datasets.Dataset:
        self._tokenizer = tokenizer  # which answers are put back together with
        sizes = WindowSizes(max_length, self._arguments.max_query_length, self._arguments.doc_stride)
        features = question_features(rows, tokenizer, sizes, training)
        known = any(question.answers or question.is_impossible for question in rows.questions)
        return features if known else features.remove_columns(_LABELS)

    def collator(self, tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> Callable:
        return padding_collator(tokenizer, max_length, few_widths)

    def metrics(self, split: Split[QuestionSet], outputs: EvalPrediction) -> dict[str, float]:
        answers = self._answers(split, outputs)
        said = predictions(answers, threshold=None)
        if not self._unanswerable:
            return squad_v1_metrics(split.rows, said)
        odds = {answer.id: answer.null_odds for answer in answers}
        return squad_v2_metrics(split.rows, said, odds, self._arguments.null_score_diff_threshold)

    def baselines(self, rows: QuestionSet) -> dict[str, float]:
        if not self._unanswerable:
            return {}
        impossible = sum(not question.answers for question in rows.questions)
        return {"unanswered_f1": 100 * impossible / len(rows)}  # what saying nothing scores

    def write_evaluation(self, folder: Path, name: str, split: Split[QuestionSet], outputs: EvalPrediction) -> None:
        self.write_predictions(folder, name, split, outputs)

    def write_predictions(
        self, folder: Path, name: str, split: Split[QuestionSet], outputs: EvalPrediction
    ) -> list[Path]:
        """`predictions.json` (each question's answer), `nbest_predictions.json`, and of squad_v2 `null_odds.json`.

        Answers are empty where the null odds are above the threshold; the lists hold them all. File names begin with
        `name` where the task has several splits.
        """
        answers = self._answers(split, outputs)
        threshold = self._arguments.null_score_diff_threshold if self._unanswerable else None
        contents: dict[str, dict] = {
            "predictions.json": predictions(answers, threshold),
            "nbest_predictions.json": nbest_lists(answers),
        }
        if self._unanswerable:
            contents["null_odds.json"] = {answer.id: answer.null_odds for answer in answers}
        prefix = f"{name}_" if len(self.evaluation) + len(self.test) > 1 else ""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for file, content in contents.items():
            path = folder / f"{prefix}{file}"
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(path)
        return written

    def _answers(self, split: Split[QuestionSet], outputs: EvalPrediction) -> list[QuestionAnswers]:
        settings = AnswerSettings(
            self._arguments.n_best_size, self._arguments.max_answer_length, self._arguments.original_answers
        )
        found = SpanOutputs.of(outputs.predictions)
        return answer_questions(split.rows, split.features, found, self._tokenizer, settings)


def question_task(arguments: FinetuneArguments) -> QuestionAnswering:
    """The task that the flags of fine-tuning name. Raises InputError for flags that don't fit and for bad files."""
    name = arguments.task_name
    sources = (arguments.train_file, arguments.squad_dir, arguments.dataset_name)
    if sum(source is not None for source in sources) != 1 or arguments.glue_dir or arguments.text_source:
        raise InputError(f"with --task_name {name} give one of --train_file, --squad_dir and --dataset_name")
    if arguments.validation_file is not None and arguments.train_file is None:
        raise InputError("--validation_file goes with --train_file")
    if name == "mrqa" and arguments.train_file is None:
        raise InputError("--task_name mrqa takes its files by --train_file and --validation_file")
    if arguments.dataset_name:
        unanswerable = name == "squad_v2"
        train, evaluation = read_squad_hub(arguments.dataset_name, arguments.dataset_config_name, unanswerable)
        return QuestionAnswering(name, arguments, train, evaluation)
    train_file, validation_file = arguments.train_file, arguments.validation_file
    if arguments.squad_dir:
        train_file, validation_file = (_squad_file(arguments.squad_dir, name, split) for split in ("train", "dev"))
    train = read_questions(name, train_file)
    evaluation = {} if validation_file is None else {"dev": read_questions(name, validation_file)}
    return QuestionAnswering(name, arguments, train, evaluation)


def prediction_task(name: str, test_file: str | Path, arguments: QuestionArguments) -> QuestionAnswering:
    """The task of answering the questions in a file of the task `name`, which need not have answers."""
    return QuestionAnswering(name, arguments, test={"test": read_questions(name, test_file, labelled=False)})


def read_questions(name: str, path: str | Path, labelled: bool = True) -> QuestionSet:
    """The questions in a file of the task `name`; without `labelled` they need no answers."""
    if name == "mrqa":
        return read_mrqa(path, labelled)
    return read_squad(path, unanswerable=name == "squad_v2", labelled=labelled)


def _squad_file(folder: str, name: str, split: str) -> Path:
    published = f"{split}-v{'2.0' if name == 'squad_v2' else '1.1'}.json"
    for file in (published, f"{split}.json"):
        if Path(folder, file).is_file():
            return Path(folder, file)
    raise InputError(f"{folder} holds no {published} (nor {split}.json)")


def _check(arguments: QuestionArguments) -> None:
    for name in ("max_query_length", "doc_stride", "beam_size", "n_best_size", "max_answer_length"):
        value = getattr(arguments, name)
        if value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    if arguments.answerable_weight < 0:
        raise InputError(f"--answerable_weight must not be negative, not {arguments.answerable_weight}")
