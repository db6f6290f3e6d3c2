"""Tags for words: chunks, named entities, parts of speech."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from bertkernels.data.conll import read_conll
from bertkernels.data.tag_features import IGNORED, tag_features
from bertkernels.data.tagged_text import TaggedText, read_tagged_hub, read_tagged_records
from bertkernels.data.tags import all_tags, detect_scheme, illegal, marks_spans, span_tags, spans
from bertkernels.errors import InputError
from bertkernels.training.finetune_arguments import FinetuneArguments, TaskArguments
from bertkernels.training.tag_metrics import span_metrics, span_metrics_by_type
from bertkernels.training.tagging_arguments import TaggingArguments
from bertkernels.training.tasks.padding import padding_arguments
from bertkernels.training.tasks.task import FinetuningTask, Split

_SCHEMES = {"chunk": "bioes", "ner": "iob2", "pos": "plain"}  # what is learned unless a flag says otherwise
TAGGING_TASKS = tuple(_SCHEMES)
_HUB_LABELS = {"chunk": ("chunk_tags",), "ner": ("ner_tags",), "pos": ("pos_tags", "upos")}
_COMMON_LABELS = ("tags", "labels")
_logger = logging.getLogger(__name__)


class Tagging(FinetuningTask[TaggedText]):
    """One tag a word, of which all but plain ones mark spans.

    Metrics: `precision`, `recall` and `f1` of spans (not of plain tags), and `accuracy`, the share of words with the
    right tag, all over all words of a split.

    Args:
        name: one of TAGGING_TASKS.
        labels: the tags that the model tells apart, in the order of their ids, in `scheme`.
        scheme: of the model's tags; "plain": they mark no spans.
        file_scheme: the one that predictions are written in, but plain ones.
    """

    auto_model = AutoModelForTokenClassification
    max_length = 256

    def __init__(
        self,
        name: str,
        labels: list[str],
        scheme: str,
        file_scheme: str,
        train: TaggedText | None = None,
        evaluation: dict[str, TaggedText] | None = None,
        test: dict[str, TaggedText] | None = None,
    ) -> None:
        self.name, self.labels, self.train = name, labels, train
        self.evaluation, self.test = evaluation or {}, test or {}
        self.metric = "accuracy" if scheme == "plain" else "f1"
        self._scheme, self._file_scheme = scheme, file_scheme

    def describe(self) -> str:
        if self._scheme == "plain":
            return f"{len(self.labels)} tags"
        types = dict.fromkeys(label[2:] for label in self.labels[1:])
        return f"{', '.join(types)}; {self._scheme}, files {self._file_scheme}"

    def configure(self, config: PreTrainedConfig) -> None:
        config.id2label = dict(enumerate(self.labels))
        config.label2id = {label: number for number, label in enumerate(self.labels)}

    def adopt(self, config: PreTrainedConfig) -> None:
        self.labels = [config.id2label[number] for number in range(config.num_labels)]
        self._scheme = detect_scheme([self.labels]) if all(map(marks_spans, self.labels)) else "plain"

    def part(self, rows: TaggedText, begin: int, end: int) -> TaggedText:
        return rows.part(begin, end)

    def encode(
        self, rows: TaggedText, tokenizer: PreTrainedTokenizerBase, max_length: int, training: bool
    ) -> datasets.Dataset:
        if rows.sentences[0].tags is None:
            return tag_features(rows, tokenizer, max_length)
        numbers = {label: number for number, label in enumerate(self.labels)}
        learned = (self._learned(sentence.tags) for sentence in rows.sentences)
        labels = [[numbers.get(tag, IGNORED) for tag in tags] for tags in learned]
        return tag_features(rows, tokenizer, max_length, labels)

    def collator(self, tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> Callable:
        return DataCollatorForTokenClassification(tokenizer, **padding_arguments(max_length, few_widths))

    def metrics(self, split: Split[TaggedText], outputs: EvalPrediction) -> dict[str, float]:
        true = [sentence.tags for sentence in split.rows.sentences]
        found = self._file_tags(split, outputs)
        right = sum(a == b for pair in zip(true, found, strict=True) for a, b in zip(*pair, strict=True))
        metrics = {"accuracy": right / sum(map(len, true))}
        if self._scheme != "plain":
            metrics |= span_metrics(map(spans, true), map(spans, found))
        return metrics

    def baselines(self, rows: TaggedText) -> dict[str, float]:
        counts = Counter(tag for sentence in rows.sentences for tag in sentence.tags)
        return {"majority_accuracy": max(counts.values()) / counts.total()}

    def write_evaluation(self, folder: Path, name: str, split: Split[TaggedText], outputs: EvalPrediction) -> None:
        """The predictions, and of spans `NAME_by_type.json`: precision, recall, F1 and number of each type."""
        self.write_predictions(folder, name, split, outputs)
        if self._scheme == "plain":
            return
        true = [spans(sentence.tags) for sentence in split.rows.sentences]
        found = map(spans, self._file_tags(split, outputs))
        content = json.dumps(span_metrics_by_type(true, found), indent=2)
        Path(folder, f"{name}_by_type.json").write_text(content + "\n", encoding="utf-8")

    def write_predictions(
        self, folder: Path, name: str, split: Split[TaggedText], outputs: EvalPrediction
    ) -> list[Path]:
        """`NAME_predictions.txt`: the lines that were read with the found tag in a column more, as conlleval takes it.

        Tags are in the training file's scheme; for a model that is only predicted with, as `words_to_predict` says.
        """
        separator = split.rows.separator
        lines = []
        for sentence, tags in zip(split.rows.sentences, self._file_tags(split, outputs), strict=True):
            lines += [separator.join([*fields, tag]) for fields, tag in zip(sentence.columns, tags, strict=True)]
            lines.append("")
        path = folder / f"{name}_predictions.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        return [path]

    def _learned(self, tags: list[str]) -> list[str]:
        """A file's tags in the model's scheme."""
        return tags if self._scheme == "plain" else span_tags(spans(tags), len(tags), self._scheme)

    def _file_tags(self, split: Split[TaggedText], outputs: EvalPrediction) -> list[list[str]]:
        """The tags found, by sentence."""
        logits = outputs.predictions[0] if isinstance(outputs.predictions, tuple) else outputs.predictions
        best = np.argmax(logits, axis=-1)  # [windows, T]
        found: list[list[str]] = [[] for _ in split.rows.sentences]
        places = zip(split.features["sentence"], split.features["word_positions"], strict=True)
        for window, (sentence, positions) in enumerate(places):
            found[sentence] += [self.labels[number] for number in best[window, positions].tolist()]
        if "plain" in (self._scheme, self._file_scheme):
            return found
        return [span_tags(spans(tags), len(tags), self._file_scheme) for tags in found]


def tagging_task(arguments: FinetuneArguments) -> Tagging:
    """The task that the flags of fine-tuning name. Raises InputError for flags that don't fit and for bad files."""
    name = arguments.task_name
    sources = (arguments.train_file, arguments.tagging_dir, arguments.dataset_name)
    if sum(source is not None for source in sources) != 1 or arguments.glue_dir or arguments.text_source:
        raise InputError(f"with --task_name {name} give one of --train_file, --tagging_dir and --dataset_name")
    if arguments.validation_file is not None and arguments.train_file is None:
        raise InputError("--validation_file goes with --train_file")
    train, evaluation = _read_all(arguments)
    scheme = arguments.tag_scheme or _SCHEMES[name]
    if scheme == "plain":
        labels = sorted({tag for sentence in train.sentences for tag in sentence.tags})
        _warn_unknown(evaluation, set(labels), lambda tag: tag)
        return Tagging(name, labels, scheme, scheme, train, evaluation)
    for text in (train, *evaluation.values()):
        _check_spans(text)
    try:
        file_scheme = detect_scheme([sentence.tags for sentence in train.sentences])
    except ValueError as error:
        raise InputError(f"{train.sentences[0].source}: {error}") from error
    for text in (train, *evaluation.values()):
        _warn_illegal(text, file_scheme)
    types = sorted({span.type for sentence in train.sentences for span in spans(sentence.tags)})
    if not types:
        raise InputError(f"{train.sentences[0].source}: all tags are O, there is nothing to learn")
    _warn_unknown(evaluation, set(types) | {""}, lambda tag: tag[2:])
    return Tagging(name, all_tags(types, scheme), scheme, file_scheme, train, evaluation)


def words_to_predict(name: str, test_file: str, arguments: TaskArguments) -> Tagging:
    """The task of tagging the words in a file, which need have no tags; what tags there are, the model will tell.

    Those that mark spans are written as --tag_scheme says, else in iob2.
    """
    text = _read(test_file, arguments, arguments.sentence1_column, None, labelled=False)
    return Tagging(name, [], _SCHEMES[name], arguments.tag_scheme or "iob2", test={"test": text})


def _read_all(arguments: FinetuneArguments) -> tuple[TaggedText, dict[str, TaggedText]]:
    text, label = arguments.sentence1_column, arguments.label_column
    if arguments.dataset_name:
        labels = (label,) if label else (*_HUB_LABELS[arguments.task_name], *_COMMON_LABELS)
        return read_tagged_hub(arguments.dataset_name, arguments.dataset_config_name, text, labels)
    train_file, validation_file = arguments.train_file, arguments.validation_file
    if arguments.tagging_dir:
        train_file, validation_file = _folder_files(Path(arguments.tagging_dir))
    train = _read(train_file, arguments, text, label)
    return train, {} if validation_file is None else {"dev": _read(validation_file, arguments, text, label)}


def _folder_files(folder: Path) -> tuple[str, str]:
    dev = next((name for name in ("dev.txt", "valid.txt") if (folder / name).is_file()), None)
    if dev is None or not (folder / "train.txt").is_file():
        raise InputError(f"{folder} holds no train.txt and dev.txt (or valid.txt)")
    return str(folder / "train.txt"), str(folder / dev)


def _read(
    path: str, arguments: TaggingArguments, text: str | None, label: str | None, labelled: bool = True
) -> TaggedText:
    if Path(path).suffix in (".json", ".jsonl"):
        return read_tagged_records(path, text, label, labelled)
    return read_conll(path, arguments.text_column_index, arguments.label_column_index, labelled)


def _check_spans(text: TaggedText) -> None:
    for sentence in text.sentences:
        for word, tag in enumerate(sentence.tags):
            if not marks_spans(tag):
                raise InputError(
                    f"{sentence.place(word)}: {tag!r} is no tag of a span, such as O, B-NP, I-NP; for tags that mark "
                    "no spans add --tag_scheme plain"
                )


def _warn_illegal(text: TaggedText, scheme: str) -> None:
    places = [(sentence, word) for sentence in text.sentences for word in illegal(sentence.tags, scheme)]
    if places:
        sentence, word = places[0]
        _logger.warning(
            "%d tags are not as %s has them, the first at %s (%s after %s): spans are read as conlleval does",
            len(places),
            scheme,
            sentence.place(word),
            sentence.tags[word],
            sentence.tags[word - 1] if word else "a sentence's beginning",
        )


def _warn_unknown(evaluation: dict[str, TaggedText], known: set[str], kind: Callable[[str], str]) -> None:
    """Says which tags of evaluation the training set does not have: no model can find them."""
    for name, text in evaluation.items():
        new = Counter(kind(tag) for sentence in text.sentences for tag in sentence.tags)
        new = {what: count for what, count in new.items() if what not in known}
        if new:
            listed = ", ".join(f"{what} ({count})" for what, count in sorted(new.items()))
            _logger.warning("%s has tags that the training set does not have: %s", name, listed)
