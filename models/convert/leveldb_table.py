"""Reads LevelDB's table format, in which TensorFlow stores the index of a checkpoint.

A table ends with a footer that points at its index block; the index block points at the data blocks; a block is a run
of entries whose keys share prefixes, followed by restart points, a compression byte and a masked CRC-32C.
(Format: the LevelDB documentation, table_format.)
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from bertkernels.errors import InputError

from .crc32c import masked_crc32c
from .wire import read_varint

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5  # compression byte and CRC


def read_table(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields the entries (key, value) of a table file, in the order of their keys.

    Raises:
        InputError: the file is no table, is cut off, damaged or compressed.
    """
    data = path.read_bytes()
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise InputError(
            f"{path} is not the index of a TensorFlow checkpoint (its last bytes are not a table's footer)"
        )
    try:
        _, position = _handle(data[-_FOOTER:], 0)  # the block of meta data, which checkpoints do not use
        index, _ = _handle(data[-_FOOTER:], position)
        for _, value in _entries(_block(path, data, *index)):
            handle, _ = _handle(value, 0)
            yield from _entries(_block(path, data, *handle))
    except (IndexError, struct.error):
        raise InputError(f"{path} is damaged: an entry runs past the end of its block") from None


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the position after them."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(path: Path, data: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + _TRAILER > len(data):
        raise InputError(f"{path} is cut off: the block at byte {offset} of {size} bytes runs past the file's end")
    compression, crc = struct.unpack("<BI", data[end : end + _TRAILER])
    if masked_crc32c(data[offset : end + 1]) != crc:
        raise InputError(f"{path} is damaged: the block at byte {offset} does not match its checksum")
    if compression:
        raise InputError(f"{path} has compressed blocks (type {compression}), which checkpoints are not written with")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        fresh, position = read_varint(block, position)
        size, position = read_varint(block, position)
        if position + fresh + size > end:
            raise IndexError
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + size]
        position += size
