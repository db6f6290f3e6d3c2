"""WikiExtractor's output: `<doc …>` blocks, one article each; the title line is left out. (Its --json form is JSON
lines.)"""

import html
import re
from collections.abc import Iterator

from bertkernels.data.formats.lines import place, text_lines
from bertkernels.data.formats.piece import Piece, ReadOptions
from bertkernels.errors import InputError

OPENING = "<doc "
_CLOSING = "</doc>"
_TITLE = re.compile(r'\btitle="([^"]*)"')


def read(piece: Piece, options: ReadOptions) -> Iterator[str]:
    for path in piece.files:
        inside, title = False, None
        for number, line in text_lines(path, piece.start, piece.end):
            text = line.strip()
            if not inside:
                if text and not text.startswith(OPENING):
                    raise InputError(f"{place(path, piece.start, number)}: expected <doc …>, found {text[:40]!r}")
                if text:
                    found = _TITLE.search(text)
                    inside, title = True, html.unescape(found[1]).strip() if found else None
            elif text == _CLOSING:
                inside = False
                yield ""
            elif text:
                if text != title and html.unescape(text) != title:
                    yield text
                title = None
        if inside:
            raise InputError(f"{path}: the last <doc …> has no {_CLOSING}")


def ends_document(line: bytes) -> bool:
    return line.strip() == _CLOSING.encode()
