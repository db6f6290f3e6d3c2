"""Words and their tags in columns, one word a line and a blank line between sentences, as in CoNLL's shared tasks."""

import re
from collections.abc import Iterator
from pathlib import Path

from bertkernels.data.compressed import open_text
from bertkernels.data.tagged_text import TaggedSentence, TaggedText
from bertkernels.errors import InputError

_BLANK = " \t\r\n"  # and no other white space, which may be a word
_DOCUMENT = "-DOCSTART-"


def read_conll(path: str | Path, text_column: int = 0, label_column: int = -1, labelled: bool = True) -> TaggedText:
    """Reads a file whose lines have one number of fields, separated by tabs if there are any, else by spaces.

    Lines that begin documents (-DOCSTART-) are passed over.

    Args:
        text_column, label_column: the fields of word and tag, from 0, or from the end if negative.
        labelled: False: tags are not asked for.

    Raises InputError naming file and line for a file that is missing, empty or not UTF-8, for a line with another
    number of fields or an empty one, and for a column that is not there.
    """
    path = Path(path)
    try:
        lines = [(number, line.strip("\r\n")) for number, line in enumerate(_lines(path), start=1)]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    separator = "\t" if any("\t" in line.strip(_BLANK) for _, line in lines) else " "
    sentences, width = [], None
    for block in _blocks(lines):
        rows = [(number, _fields(line, separator)) for number, line in block]
        for number, fields in rows:
            width = width or (number, len(fields))
            _check_fields(f"{path}, line {number}", fields, width)
            _check_column(f"{path}, line {number}", "--text_column_index", text_column, len(fields))
            if labelled:
                _check_column(f"{path}, line {number}", "--label_column_index", label_column, len(fields))
                if text_column % len(fields) == label_column % len(fields):
                    raise InputError(f"{path}, line {number}: word and tag are in one column, {fields[text_column]!r}")
        columns = [fields for _, fields in rows]
        tags = [fields[label_column] for fields in columns] if labelled else None
        words = [fields[text_column] for fields in columns]
        sentences.append(TaggedSentence(words, tags, columns, str(path), block[0][0]))
    if not sentences:
        raise InputError(f"{path} is empty: expected one word a line and a blank line between sentences")
    return TaggedText(sentences, separator)


def _lines(path: Path) -> Iterator[str]:
    with open_text(path) as file:
        yield from file


def _blocks(lines: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """The lines between blank ones and the beginnings of documents."""
    block = []
    for number, line in lines:
        if line.strip(_BLANK) and not line.startswith(_DOCUMENT):
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _fields(line: str, separator: str) -> list[str]:
    return line.split("\t") if separator == "\t" else re.split(" +", line.strip(" "))


def _check_fields(place: str, fields: list[str], width: tuple[int, int]) -> None:
    if len(fields) != width[1]:
        raise InputError(f"{place}: {len(fields)} fields, expected {width[1]} as in line {width[0]}")
    if not all(field.strip(_BLANK) for field in fields):
        raise InputError(f"{place}: an empty field")


def _check_column(place: str, flag: str, column: int, fields: int) -> None:
    if not -fields <= column < fields:
        raise InputError(f"{place}: no column {column} ({flag}) among {fields}")
