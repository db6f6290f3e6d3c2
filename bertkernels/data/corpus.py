"""Plain text for pre-training: one sentence a line, a blank line between documents; .gz, .xz and .bz2 are read too."""

import bz2
import gzip
import lzma
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from bertkernels.errors import InputError

_OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


def read_documents(files: Iterable[str | os.PathLike]) -> Iterator[list[str]]:
    """Yields documents (lists of sentences) of the files in the given order; a file's end ends a document.

    Raises InputError for a file that is missing, is not UTF-8 (or not in its compressed form), or holds no text.
    """
    for path in map(Path, files):
        found = False
        for document in _documents(path):
            found = True
            yield document
        if not found:
            raise InputError(f"{path} is empty: expected one sentence a line and a blank line between documents")


def _documents(path: Path) -> Iterator[list[str]]:
    read, document = 0, []
    try:
        with open_text(path) as file:
            for line in file:
                read += 1
                sentence = line.strip()
                if sentence:
                    document.append(sentence)
                elif document:
                    yield document
                    document = []
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, after line {read}: not UTF-8 text ({error.reason})") from error
    except (lzma.LZMAError, EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}, after line {read}: damaged compressed file ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if document:
        yield document


def open_text(path: Path) -> TextIO:
    """Opens a UTF-8 text file (a byte order mark is dropped), decompressing by its suffix."""
    return _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8-sig", newline="\n")
