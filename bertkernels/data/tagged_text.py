"""Sentences whose words have tags, as readers of all formats give them and features are made of."""

from collections.abc import Iterable
from dataclasses import dataclass

import datasets

from bertkernels.data.hub import load_splits
from bertkernels.data.tables import Record, read_table
from bertkernels.errors import InputError

_TEXT_NAMES = ("tokens", "words")
_LABEL_NAMES = ("tags", "labels", "ner_tags", "chunk_tags", "pos_tags")


@dataclass(frozen=True)
class TaggedSentence:
    """A sentence.

    Attributes:
        words: its words.
        tags: one a word, as in the file; None where they are unknown.
        columns: the words' lines, in fields: what predictions are written beside.
        source: where it stands; with `line` the file.
        line: the line of its first word; None where the words have no lines of their own.
    """

    words: list[str]
    tags: list[str] | None
    columns: list[list[str]]
    source: str
    line: int | None = None

    def place(self, word: int) -> str:
        """Where a word stands, for messages."""
        return f"{self.source}, word {word + 1}" if self.line is None else f"{self.source}, line {self.line + word}"


@dataclass(frozen=True)
class TaggedText:
    """Sentences, and what separates the fields of their lines."""

    sentences: list[TaggedSentence]
    separator: str = "\t"

    def __len__(self) -> int:
        return len(self.sentences)

    def part(self, begin: int, end: int) -> "TaggedText":
        """The sentences from number `begin` to before `end`."""
        return TaggedText(self.sentences[begin:end], self.separator)


def read_tagged_records(path: str, text: str | None, label: str | None, labelled: bool = True) -> TaggedText:
    """Reads .json or .jsonl records with a list of words and a list of tags.

    Args:
        text, label: the fields that hold them; None: found by the usual names (tokens or words; tags, ner_tags ...).
        labelled: False: tags are not asked for.

    Raises InputError naming file and record for what is missing or of another form.
    """
    return _tagged(read_table(path), text, (label,) if label else _LABEL_NAMES, labelled)


def read_tagged_hub(
    name: str, config: str | None, text: str | None, labels: tuple[str, ...]
) -> tuple[TaggedText, dict[str, TaggedText]]:
    """Training sentences, and evaluation sentences by split, of a hub data set; `labels`: fields to look for tags in.

    Raises InputError as `read_hub` and `read_tagged_records` do.
    """
    sets = {
        split: _tagged(_hub_records(f"{name}/{split}", data), text, labels)
        for split, data in load_splits(name, config).items()
    }
    return sets.pop("train"), sets


def _hub_records(source: str, data: datasets.Dataset) -> Iterable[Record]:
    names = {
        key: kind.feature.names
        for key, kind in data.features.items()
        if isinstance(getattr(kind, "feature", None), datasets.ClassLabel)
    }
    for number, row in enumerate(data):
        known = {key: [names[key][tag] for tag in row[key]] for key in names}
        yield Record(f"{source}, row {number}", row | known)


def _tagged(records: Iterable[Record], text: str | None, labels: tuple[str, ...], labelled: bool = True) -> TaggedText:
    sentences = []
    for record in records:
        words = _texts(record, (text,) if text else _TEXT_NAMES, "words")
        tags = _texts(record, labels, "tags") if labelled else None
        if not words:
            raise InputError(f"{record.place}: a sentence without words")
        if tags is not None and len(tags) != len(words):
            raise InputError(f"{record.place}: {len(words)} words but {len(tags)} tags")
        columns = [[word] for word in words] if tags is None else [[*pair] for pair in zip(words, tags, strict=True)]
        sentences.append(TaggedSentence(words, tags, columns, record.place))
    return TaggedText(sentences)


def _texts(record: Record, names: tuple[str, ...], called: str) -> list[str]:
    name = next((name for name in names if name in record.fields), None)
    if name is None:
        raise InputError(
            f"{record.place}: no list of {called} called {' or '.join(names)} among {', '.join(record.fields)}"
        )
    values = record.fields[name]
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise InputError(f"{record.place}: {name!r} must be a list of {called}, found {values!r:.80}")
    return values
