"""The built-in text as it is kept: a JSON line for each source file, which is one document."""

import json
from collections.abc import Iterator

from bertkernels.data.formats.lines import text_lines
from bertkernels.data.formats.piece import Piece, ReadOptions


def read(piece: Piece, options: ReadOptions) -> Iterator[str]:
    for path in piece.files:
        for _, line in text_lines(path, piece.start, piece.end):
            for paragraph in json.loads(line)["paragraphs"]:
                yield from paragraph
            yield ""


def ends_document(line: bytes) -> bool:
    return True
