"""JSON lines: one object a line, whose text field is one document (its lines, or a list, are the sentences)."""

import json
from collections.abc import Iterator

from bertkernels.data.formats.lines import place, text_lines
from bertkernels.data.formats.piece import Piece, ReadOptions
from bertkernels.data.formats.text_column import text_column, text_sentences
from bertkernels.errors import InputError


def read(piece: Piece, options: ReadOptions) -> Iterator[str]:
    for path in piece.files:
        for number, line in text_lines(path, piece.start, piece.end):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{place(path, piece.start, number)}: not valid JSON ({error.msg})") from error
            if not isinstance(record, dict):
                found = type(record).__name__
                raise InputError(f"{place(path, piece.start, number)}: expected a JSON object, found {found}")
            try:
                column = text_column(record, options.text_column, "")
                yield from text_sentences(record[column], column, "")
            except InputError as error:  # the place is worked out only where it is needed
                raise InputError(f"{place(path, piece.start, number)}{error}") from error
            yield ""


def ends_document(line: bytes) -> bool:
    return True
