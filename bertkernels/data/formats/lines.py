"""Lines of text files and of parts of them, with places for error messages."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from bertkernels.data.compressed import DAMAGED, open_bytes
from bertkernels.errors import InputError


def text_lines(path: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, str]]:
    """(number from 1 within the part, line without its end) of the bytes from `start` to `end`, which are lines' ends.

    A byte order mark is dropped. Raises InputError naming file and line for what is not UTF-8, or damaged, or missing.
    """
    with reading(path), open_bytes(Path(path)) as file:
        file.seek(start)
        yield from decoded(file, path, start, end)


def decoded(file: BinaryIO, path: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, str]]:
    """`text_lines` of an open file that stands at byte `start`."""
    at, number = start, 0
    while end is None or at < end:
        try:
            raw = file.readline()
        except DAMAGED as error:
            raise InputError(f"{place(path, start, number)}: damaged after this line ({error})") from error
        if not raw:
            return
        number += 1
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{place(path, start, number)}: not UTF-8 text ({error.reason})") from error
        if at == 0:
            line = line.removeprefix("\ufeff")
        at += len(raw)
        yield number, line.rstrip("\r\n")


def place(path: str, start: int, number: int) -> str:
    """ "FILE, line N" of the N-th line after byte `start`."""
    if start:
        with open(path, "rb") as file:
            while start > 0 and (block := file.read(min(start, 1 << 20))):
                number += block.count(b"\n")
                start -= len(block)
    return f"{path}, line {number}"


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns errors of the file system and of decompression into InputError."""
    try:
        yield
    except DAMAGED as error:
        raise InputError(f"{path}: damaged compressed file ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def cut(path: str, size: int, ends_document: Callable[[bytes], bool]) -> list[tuple[int, int]]:
    """Byte ranges of about `size` bytes that cover an uncompressed file; each ends after a line that ends a document.

    A document longer than `size` is cut after a line, so that no range is longer than about 2 · `size`.
    """
    total = os.path.getsize(path)
    ranges, start = [], 0
    with open(path, "rb") as file:
        while total - start > size + size // 2:
            file.seek(start + size)
            within = start + size + len(file.readline())  # the rest of a line
            end = within
            while end < total and end - start < 2 * size:
                line = file.readline()
                end += len(line)
                if ends_document(line):
                    break
            else:
                end = within
            if end >= total:
                break
            ranges.append((start, end))
            start = end
    ranges.append((start, total))
    return ranges
