"""All formats by name, and which one a file is in."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bertkernels.data.compressed import open_bytes
from bertkernels.data.formats import archive, builtin, dataset_rows, json_lines, plain_text, wikiextractor
from bertkernels.data.formats.lines import reading
from bertkernels.data.formats.piece import Piece, ReadOptions

_HEAD = 1 << 16


@dataclass(frozen=True)
class Format:
    """`read` yields sentences, and "" at a document's end. `ends_document`: whether a file may be cut after a line;
    None: only one process can read a file."""

    read: Callable[[Piece, ReadOptions], Iterator[str]]
    ends_document: Callable[[bytes], bool] | None = None


FORMATS = {
    "text": Format(plain_text.read, plain_text.ends_document),
    "archive": Format(archive.read),
    "json_lines": Format(json_lines.read, json_lines.ends_document),
    "wikiextractor": Format(wikiextractor.read, wikiextractor.ends_document),
    "dataset": Format(dataset_rows.read),
    "builtin": Format(builtin.read, builtin.ends_document),
}
FILE_FORMATS = ("text", "archive", "json_lines", "wikiextractor")


def format_of(path: Path) -> str:
    """The format's name, by the file's first bytes (decompressed): names say little (OpenWebText's tar files end in
    .xz, WikiExtractor's in nothing). Raises InputError for a file that cannot be read."""
    if path.suffix in dataset_rows.FILES:
        return "dataset"
    with reading(str(path)), open_bytes(path) as file:
        head = file.read(_HEAD)
    if archive.is_tar(head):
        return "archive"
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if first.startswith(wikiextractor.OPENING.encode()):
        return "wikiextractor"
    return "json_lines" if _is_json(path, first) else "text"


def _is_json(path: Path, first: bytes) -> bool:
    if {".jsonl", ".ndjson", ".json"} & set(path.suffixes[-2:]):
        return True
    line, end, _ = first.partition(b"\n")
    if not line.startswith(b"{"):
        return False
    if not end and len(line) >= _HEAD - 3:  # longer than what was read
        return line.startswith(b'{"')
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def read(piece: Piece, options: ReadOptions) -> Iterator[str]:
    """Sentences of a piece of text, and "" at each document's end. Raises InputError naming file and line."""
    return FORMATS[piece.format].read(piece, options)
