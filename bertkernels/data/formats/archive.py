"""Archives of documents, such as OpenWebText's: tar files, compressed or not, whose `.txt` members are one document
each; members that are archives themselves are opened too. Read as streams: nothing is unpacked to disk."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bertkernels.data.compressed import DAMAGED, OPENERS
from bertkernels.data.formats.lines import decoded, reading
from bertkernels.data.formats.piece import Piece, ReadOptions
from bertkernels.errors import InputError

_MAGIC = slice(257, 262)  # where a tar file says "ustar"
_HEAD = 512


def read(piece: Piece, options: ReadOptions) -> Iterator[str]:
    for path in piece.files:
        found = False
        with reading(path), open(path, "rb") as file:
            for line in _documents(file, path):
                found = True
                yield line
        if not found:
            raise InputError(f"{path} holds no documents: expected members that end in .txt")


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so is a tar file."""
    return head[_MAGIC] == b"ustar"


def _documents(file: BinaryIO, name: str) -> Iterator[str]:
    suffix = PurePosixPath(name).suffix
    if suffix in OPENERS:
        file, name = OPENERS[suffix](file, "rb"), str(Path(name).with_suffix(""))
    try:
        stream = _Rewound(file)
        if is_tar(stream.head):
            yield from _members(io.BufferedReader(stream), name)
        elif name.endswith(".txt"):
            for _, line in decoded(io.BufferedReader(stream), name):
                if sentence := line.strip():
                    yield sentence
            yield ""
    except (tarfile.TarError, *DAMAGED) as error:
        raise InputError(f"{name}: damaged archive ({error})") from error


def _members(file: BinaryIO, name: str) -> Iterator[str]:
    with tarfile.open(fileobj=file, mode="r|") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # which would hold every one of millions
            if member.isfile():
                yield from _documents(archive.extractfile(member), f"{name}/{member.name}")


class _Rewound(io.RawIOBase):
    """A stream whose first bytes were looked at and are read again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.head = self._rest = self._read_head()

    def _read_head(self) -> bytes:
        head = b""
        while len(head) < _HEAD and (block := self._file.read(_HEAD - len(head))):
            head += block
        return head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        block = self._rest[: len(buffer)] or self._file.read(len(buffer))
        self._rest = self._rest[len(block) :]
        buffer[: len(block)] = block
        return len(block)
