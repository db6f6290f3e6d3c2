"""Text to pre-train on: where it is, how it is cut into pieces, and a fingerprint of its content."""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bertkernels.data.builtin_text import builtin_fingerprint, builtin_text_file
from bertkernels.data.cache import file_digest, fingerprint
from bertkernels.data.compressed import is_compressed
from bertkernels.data.formats import dataset_rows
from bertkernels.data.formats.lines import cut, reading
from bertkernels.data.formats.piece import Piece, ReadOptions
from bertkernels.data.formats.registry import FORMATS, format_of, read
from bertkernels.errors import InputError

PIECE_BYTES = 16 << 20  # of text; what one process takes at once, whoever it is: it shapes the examples
_TIMES_SMALLER = 4  # compressed text is about so many times smaller


@dataclass(frozen=True)
class TextSource:
    """Pieces of text in a fixed order, how they are read, and a fingerprint that stands for their content.

    `inputs` says what the fingerprint is made of: files with their size and SHA-256.
    """

    name: str
    pieces: tuple[Piece, ...]
    options: ReadOptions
    fingerprint: str
    inputs: tuple[dict, ...] = ()

    def sample(self, sentences: int) -> "SentenceSample":
        """About so many sentences, the first ones of each piece; they can be gone through more than once."""
        return SentenceSample(self, sentences)


@dataclass(frozen=True)
class SentenceSample:
    source: TextSource
    sentences: int

    def __iter__(self) -> Iterator[str]:
        share = -(-self.sentences // max(1, len(self.source.pieces)))
        for piece in self.source.pieces:
            yield from itertools.islice(filter(None, read(piece, self.source.options)), share)


def builtin_source() -> TextSource:
    """The docstrings of the installed libraries."""
    path = str(builtin_text_file())
    ranges = cut(path, PIECE_BYTES, FORMATS["builtin"].ends_document)
    pieces = tuple(Piece("builtin", (path,), start, end, end - start) for start, end in ranges)
    return TextSource("built-in text", pieces, ReadOptions(), builtin_fingerprint())


def dataset_source(name: str, options: ReadOptions) -> TextSource:
    """A Hugging Face data set: hub name, saved folder, Parquet or Arrow file."""
    facts = dataset_rows.content(name, options)
    facts["columns"] = options.text_column
    return TextSource(name, tuple(dataset_rows.split(name, options)), options, fingerprint(facts), (facts,))


def file_source(
    paths: list[str], options: ReadOptions | None = None, format: str | None = None, piece_bytes: int = PIECE_BYTES
) -> TextSource:
    """Files, and all files in folders (by name), in any of the formats; `format` names it where it is not to be found.

    Files are read and digested here. Raises InputError for one that is missing or cannot be read.
    """
    options = options or ReadOptions()
    files = [file for path in paths for file in _expand(path)]
    if not files:
        raise InputError(f"{', '.join(paths)}: there are no files in it")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        inputs = tuple(pool.map(lambda path: _describe(path, format), files))
    pieces = tuple(_pieces(inputs, options, piece_bytes))
    facts = {
        "files": [[file["format"], file["sha256"]] for file in inputs],
        "options": asdict(options),
        "piece_bytes": piece_bytes,
    }
    return TextSource(", ".join(paths), pieces, options, fingerprint(facts), inputs)


def _expand(path: str) -> list[Path]:
    place = Path(path)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError(f"{path}: no such text file")
    if dataset_rows.is_saved(place):
        raise InputError(f"{path} is a data set on disk: name it with --dataset_name")
    found = []
    for folder, folders, names in os.walk(place):
        folders.sort()
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    return found


def _describe(path: Path, format: str | None) -> dict:
    with reading(str(path)):
        kind = format or format_of(path)
        return {"path": str(path), "format": kind, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def _pieces(inputs: tuple[dict, ...], options: ReadOptions, size: int) -> Iterator[Piece]:
    """Large files in parts where the format allows it, small neighbours of one format together."""
    group: list[str] = []
    weight, kind = 0, ""

    def grouped() -> Iterator[Piece]:
        if group:
            yield Piece(kind, tuple(group), size=weight)
            group.clear()

    for file in inputs:
        path, text = file["path"], file["bytes"]
        if file["format"] == "dataset":
            yield from grouped()
            yield from dataset_rows.split(path, options)
            continue
        compressed = is_compressed(Path(path))
        text *= _TIMES_SMALLER if compressed else 1
        ends_document = FORMATS[file["format"]].ends_document
        whole = compressed or ends_document is None or (file["format"] == "text" and options.documents == "files")
        if file["format"] != kind or weight + text > size:
            yield from grouped()
            weight, kind = 0, file["format"]
        ranges = [] if whole else cut(path, size, ends_document)
        if len(ranges) > 1:
            yield from grouped()
            weight = 0
            yield from (Piece(kind, (path,), start, end, end - start) for start, end in ranges)
        else:
            group.append(path)
            weight += text
    yield from grouped()
