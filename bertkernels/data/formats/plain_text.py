"""Plain text: one sentence a line, a blank line between documents; or each file one document.

Lines count as sentences, as in the original programs: a document that is not split into sentences has long ones.
"""

from collections.abc import Iterator

from bertkernels.data.formats.lines import text_lines
from bertkernels.data.formats.piece import Piece, ReadOptions


def read(piece: Piece, options: ReadOptions) -> Iterator[str]:
    whole_files = piece.start == 0 and piece.end is None
    for path in piece.files:
        inside = found = False
        for _, line in text_lines(path, piece.start, piece.end):
            if sentence := line.strip():
                inside = found = True
                yield sentence
            elif inside and options.documents == "blank_lines":
                inside = False
                yield ""
        if inside or (whole_files and not found):
            yield ""


def ends_document(line: bytes) -> bool:
    return not line.strip()
