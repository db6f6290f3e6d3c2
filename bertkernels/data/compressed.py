"""Files that may be compressed, by their suffix."""

import bz2
import gzip
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO, TextIO

OPENERS = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
    ".tgz": gzip.open,
    ".txz": lzma.open,
    ".tbz2": bz2.open,
}
DAMAGED = (lzma.LZMAError, EOFError, gzip.BadGzipFile, zlib.error)  # what reading a damaged file raises


def open_text(path: Path) -> TextIO:
    """Opens a UTF-8 text file (a byte order mark is dropped), decompressing by its suffix."""
    return OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8-sig", newline="\n")


def open_bytes(path: Path) -> BinaryIO:
    """Opens a file's bytes, decompressing by its suffix."""
    return OPENERS.get(path.suffix, open)(path, "rb")


def is_compressed(path: Path) -> bool:
    return path.suffix in OPENERS
