"""Examples as Arrow files in the form of Hugging Face's datasets, written in blocks."""

import os
import random
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertkernels.data.example_builder import Example

_BLOCK = 4096
_SHUFFLED_BLOCK = 65_536
_LABEL = "next_sentence_label"


class ShardWriter:
    """Columns `input_ids` (list of int32, unpadded), `first_length` (int32) and, of pairs, `next_sentence_label`
    (int8). With `shuffle` the examples of each block of 65,536 change places."""

    def __init__(self, path: Path, labelled: bool, shuffle: random.Random | None = None) -> None:
        fields = [("input_ids", pa.list_(pa.int32())), ("first_length", pa.int32())]
        self._schema = pa.schema([*fields, (_LABEL, pa.int8())] if labelled else fields)
        self._shuffle = shuffle
        self._size = _SHUFFLED_BLOCK if shuffle else _BLOCK
        self._block: list[Example] = []
        self._file = open(path, "wb")  # noqa: SIM115 (closed by `close`)
        self._writer = pa.ipc.new_stream(self._file, self._schema)

    def write(self, example: Example) -> None:
        self._block.append(example)
        if len(self._block) == self._size:
            self._flush()

    def close(self) -> None:
        """Writes what is left; after this the file is on disk to stay."""
        self._flush()
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _flush(self) -> None:
        if not self._block:
            return
        if self._shuffle:
            self._shuffle.shuffle(self._block)
        lengths = [len(example.input_ids) for example in self._block]
        ids = np.empty(sum(lengths), dtype=np.int32)
        offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
        np.cumsum(lengths, out=offsets[1:])
        for example, start, end in zip(self._block, offsets[:-1], offsets[1:], strict=True):
            ids[start:end] = example.input_ids
        columns = [
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids)),
            pa.array([example.first_length for example in self._block], pa.int32()),
        ]
        if _LABEL in self._schema.names:
            columns.append(pa.array([example.next_sentence_label for example in self._block], pa.int8()))
        self._writer.write_batch(pa.record_batch(columns, self._schema))
        self._block = []
