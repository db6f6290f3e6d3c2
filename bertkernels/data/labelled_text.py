"""Labelled sentences and sentence pairs: columns found and checked, labels numbered."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bertkernels.data.tables import Record
from bertkernels.errors import InputError

# Names looked for, in this order, where a column is not named.
_TEXT_NAMES = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text_a", "text_b"),
    ("sentence", None),
    ("text", None),
)
_LABEL_NAMES = ("label", "labels", "gold_label", "score", "class")
_INDEX_NAMES = ("index", "id", "idx")


@dataclass(frozen=True)
class LabelledText:
    """Sentences, or pairs where `seconds` is not None, with labels as text or, for regression, as numbers.

    Rows to predict have no labels (None) and what their file calls them, else their number from 0, as indices.
    """

    firsts: list[str]
    seconds: list[str] | None
    labels: list[str] | list[float] | None
    places: list[str]  # where each row stands, for error messages
    indices: list[str] | None = None

    def __len__(self) -> int:
        return len(self.firsts)

    def with_swapped_pairs(self) -> "LabelledText":
        """These rows and then the same with their texts swapped, as ELECTRA trains where the order means nothing."""
        firsts, seconds = self.firsts + self.seconds, self.seconds + self.firsts
        indices = None if self.indices is None else self.indices * 2
        return replace(
            self, firsts=firsts, seconds=seconds, labels=self.labels * 2, places=self.places * 2, indices=indices
        )


@dataclass(frozen=True)
class Columns:
    """Which columns hold the text(s) and the label; None: found by the usual names."""

    first: str | None = None
    second: str | None = None
    label: str | None = None


def labelled_text(records: list[Record], columns: Columns, regression: bool = False) -> LabelledText:
    """Picks text and label out of a table's records.

    Raises InputError naming file, line and column for a column that is missing, a text that is none, and for a label
    that is empty or, in regression, no number.
    """
    first, second = _text_columns(records[0], columns)
    label = _label_column(records[0], columns)
    labels = [_number(record, label) if regression else _label(record, label) for record in records]
    if not regression:
        _refuse_numbers(records, label, labels)
    return LabelledText(
        [_text(record, first) for record in records],
        None if second is None else [_text(record, second) for record in records],
        labels,
        [record.place for record in records],
    )


def unlabelled_text(records: list[Record], columns: Columns) -> LabelledText:
    """Picks the text out of records to predict; a column of labels may be there and is not looked at.

    Raises InputError as `labelled_text`.
    """
    first, second = _text_columns(records[0], columns)
    index = next((name for name in _INDEX_NAMES if name in records[0].fields), None)
    return LabelledText(
        [_text(record, first) for record in records],
        None if second is None else [_text(record, second) for record in records],
        None,
        [record.place for record in records],
        [str(number if index is None else _field(record, index)) for number, record in enumerate(records)],
    )


def label_names(train: LabelledText) -> list[str]:
    """The distinct labels of the training rows: whole numbers by value, others by the alphabet."""
    names = set(train.labels)
    if all(name.lstrip("-").isdecimal() for name in names):
        return sorted(names, key=int)
    return sorted(names)


def label_ids(rows: LabelledText, names: Iterable[str]) -> list[int]:
    """The rows' labels as numbers. Raises InputError (file, line, label, expected) for one that is not in `names`."""
    number_of = {name: number for number, name in enumerate(names)}
    for place, label in zip(rows.places, rows.labels, strict=True):
        if label not in number_of:
            raise InputError(f"{place}: unknown label {label!r}, expected one of {', '.join(map(repr, number_of))}")
    return [number_of[label] for label in rows.labels]


def _text_columns(record: Record, columns: Columns) -> tuple[str, str | None]:
    names = record.fields
    _check_column(record, "text", columns.first)
    _check_column(record, "second text", columns.second)
    first, second = columns.first, columns.second
    if first is None:
        usual = [pair for pair in _TEXT_NAMES if all(name is None or name in names for name in pair)]
        if not usual:
            raise InputError(
                f"{record.place}: no text column among {', '.join(names)}; name it with --sentence1_column "
                "(and --sentence2_column)"
            )
        first, second = usual[0][0], columns.second or usual[0][1]
    return first, second


def _label_column(record: Record, columns: Columns) -> str:
    names = record.fields
    _check_column(record, "label", columns.label)
    label = columns.label or next((name for name in _LABEL_NAMES if name in names), None)
    if label is None:
        raise InputError(f"{record.place}: no label column among {', '.join(names)}; name it with --label_column")
    return label


def _check_column(record: Record, role: str, name: str | None) -> None:
    if name is not None and name not in record.fields:
        raise InputError(f"{record.place}: no column {name!r} for the {role}; columns: {', '.join(record.fields)}")


def _field(record: Record, name: str) -> object:
    if name not in record.fields:
        raise InputError(f"{record.place}: the column {name!r} is missing")
    return record.fields[name]


def _text(record: Record, name: str) -> str:
    value = _field(record, name)
    if not isinstance(value, str):
        raise InputError(f"{record.place}: {name!r} must be text, found {value!r}")
    return value


def _label(record: Record, name: str) -> str:
    value = _field(record, name)
    if value is None or isinstance(value, (list, dict)) or str(value).strip() == "":
        raise InputError(f"{record.place}: {name!r} must hold a label, found {value!r}")
    return str(value).strip()


def _number(record: Record, name: str) -> float:
    value = _field(record, name)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if number != number or number in (float("inf"), float("-inf")):
        raise InputError(f"{record.place}: {name!r} must be a number, found {value!r}")
    return number


def _refuse_numbers(records: list[Record], name: str, labels: list[str]) -> None:
    """Measured values are no classes: one class a score would train, and mean nothing."""
    for record, label in zip(records, labels, strict=True):
        whole, point, fraction = label.partition(".")
        if not (point and whole.lstrip("-").isdecimal() and fraction.isdecimal() and fraction.strip("0")):
            continue
        raise InputError(f"{record.place}: the label {label!r} is a number; for regression add --task_type regression")
