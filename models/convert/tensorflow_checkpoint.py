"""Reads TensorFlow checkpoints (`.index` and `.data-00000-of-00001` files) without TensorFlow.

The format is small and has not changed since 2016, so a few hundred lines of Python and NumPy read it; TensorFlow would
be half a gigabyte of dependency for opening one file, and the versions that wrote the published checkpoints no longer
install. Tensors stay in memory-mapped files until they are read.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertkernels.errors import InputError

from .crc32c import masked_crc32c
from .leveldb_table import read_table
from .wire import read_message

# tensorflow/core/framework/types.proto
_DTYPES = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    17: np.dtype("<u2"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
}
_BFLOAT16 = 14


@dataclass(frozen=True)
class _Entry:
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


class TensorFlowCheckpoint(Mapping[str, np.ndarray]):
    """The variables of a checkpoint by name. Names and shapes come from the index; a tensor is read when asked for.

    Args:
        path: the checkpoint's prefix (`…/model.ckpt-1000`), its `.index` file, or its folder. In a folder the file
            `checkpoint` says which one is meant; without it there must be exactly one.

    Raises:
        InputError: the checkpoint is missing, incomplete or damaged (checksums of the index and of every tensor that is
            read are verified), with the file and the variable.
    """

    def __init__(self, path: str | Path):
        self.prefix = find_prefix(Path(path))
        index = _with_suffix(self.prefix, ".index")
        self._shards = 1
        self._entries: dict[str, _Entry] = {}
        for key, value in read_table(index):
            try:
                if key:
                    self._entries[key.decode()] = _entry(value)
                else:
                    self._shards = _header(value)
            except (ValueError, IndexError, struct.error) as error:
                raise InputError(f"{index} is damaged: entry {key.decode(errors='replace')!r}: {error}") from None
        self._data: dict[int, np.ndarray] = {}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every variable; reads no data."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        where = f"variable {name!r} in {self.prefix}"
        if entry.sliced:
            raise InputError(f"{where} is stored in slices (a partitioned variable), which is not supported")
        dtype = np.dtype("<u2") if entry.dtype == _BFLOAT16 else _DTYPES.get(entry.dtype)
        if dtype is None:
            raise InputError(f"{where} has TensorFlow's data type number {entry.dtype}, which is not a number's")
        if math.prod(entry.shape) * dtype.itemsize != entry.size:
            raise InputError(f"{where} is damaged: shape {list(entry.shape)} does not fit its {entry.size} bytes")
        if entry.shard not in self._data:
            self._data[entry.shard] = self._open(entry.shard)
        raw = self._data[entry.shard][entry.offset : entry.offset + entry.size]
        if raw.size != entry.size:
            raise InputError(f"{where}: the data file is cut off, {self._shard_path(entry.shard)}")
        if masked_crc32c(raw) != entry.crc:
            raise InputError(f"{where} does not match its checksum: {self._shard_path(entry.shard)} is damaged")
        array = np.frombuffer(raw, dtype).reshape(entry.shape)
        if entry.dtype == _BFLOAT16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array

    def _shard_path(self, shard: int) -> Path:
        return _with_suffix(self.prefix, f".data-{shard:05d}-of-{self._shards:05d}")

    def _open(self, shard: int) -> np.ndarray:
        path = self._shard_path(shard)
        if not path.is_file():
            raise InputError(f"{path} is missing: the checkpoint's index names {self._shards} data file(s)")
        if not path.stat().st_size:
            return np.zeros(0, np.uint8)  # an empty file cannot be mapped
        return np.memmap(path, np.uint8, mode="r")


def find_prefix(path: Path) -> Path:
    """The prefix of the checkpoint that `path` means; InputError where there is none or more than one."""
    if path.is_dir():
        return _prefix_in_folder(path)
    match = re.fullmatch(r"(.+)\.(index|meta|data-\d{5}-of-\d{5})", path.name)
    prefix = path.with_name(match[1]) if match else path
    if not _with_suffix(prefix, ".index").is_file():
        raise InputError(f"there is no TensorFlow checkpoint {prefix}: {_with_suffix(prefix, '.index')} is missing")
    return prefix


def _prefix_in_folder(folder: Path) -> Path:
    present = sorted(file.name.removesuffix(".index") for file in folder.glob("*.index"))
    state = folder / "checkpoint"
    if state.is_file():
        match = re.search(r'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\]|\\.)+)"', state.read_text(), re.MULTILINE)
        if match is None:
            raise InputError(f'{state} has no line model_checkpoint_path: "..."')
        # the path is often absolute, from the machine that trained the model
        for prefix in (folder / match[1], folder / Path(match[1]).name):
            if _with_suffix(prefix, ".index").is_file():
                return prefix
        found = f"the folder has {', '.join(present)}" if present else "the folder has no checkpoint"
        raise InputError(f"{state} names {match[1]!r}, which is missing; {found}")
    if len(present) == 1:
        return folder / present[0]
    if not present:
        raise InputError(f"{folder} has no TensorFlow checkpoint (no *.index file)")
    raise InputError(f"{folder} has several checkpoints and no file `checkpoint`: name one of {', '.join(present)}")


def _with_suffix(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _header(value: bytes) -> int:
    """The number of data files (tensor_bundle.proto, BundleHeaderProto)."""
    fields = read_message(value)
    if fields.get(2, [0])[0] != 0:
        raise ValueError("big-endian checkpoints are not supported")
    return fields.get(1, [0])[0]


def _entry(value: bytes) -> _Entry:
    """Where a tensor is (tensor_bundle.proto, BundleEntryProto)."""
    fields = read_message(value)

    def number(field: int) -> int:
        return fields.get(field, [0])[0]

    shape = read_message(fields[2][0]) if 2 in fields else {}
    sizes = [read_message(dimension).get(1, [0])[0] for dimension in shape.get(2, [])]
    return _Entry(number(1), tuple(sizes), number(3), number(4), number(5), number(6), sliced=7 in fields)
