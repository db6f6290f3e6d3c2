"""Files with hidden states of the tokens of some rows, as Arrow or safetensors.

Arrow: a stream of record batches, with a row for each sequence: `row` (int64, its number in the data set), `tokens`
(list of strings), `input_ids` (list of int32) and, for each state "block.site", a list with a vector for each token.
`datasets.load_dataset("arrow", data_files=…)` reads them.
safetensors: `row` [R], `lengths` [R], `input_ids` [N], and states [N, D], sequence after sequence; the texts of the N
tokens are in the file's metadata, as JSON under "tokens".
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors import safe_open
from safetensors.torch import save_file

ARROW, SAFETENSORS = "arrow", "safetensors"
FORMATS = (ARROW, SAFETENSORS)


@dataclass(frozen=True)
class TrackedRows:
    """Some sequences of R rows with N tokens in all.

    Attributes:
        row: int64 [R], their numbers in the data set.
        lengths: int64 [R], tokens of each; their sum is N.
        input_ids: int32 [N].
        tokens: their N texts.
        states: by "block.site" [N, D].
    """

    row: torch.Tensor
    lengths: torch.Tensor
    input_ids: torch.Tensor
    tokens: list[str]
    states: dict[str, torch.Tensor]


class ArrowShard:
    """Writes one file, batch by batch."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 (closed by `close`)
        self._writer = None

    def write(self, rows: TrackedRows) -> None:
        ends = pa.array(np.cumsum([0, *rows.lengths.tolist()]), pa.int32())
        columns = {
            "row": pa.array(rows.row.numpy()),
            "tokens": pa.ListArray.from_arrays(ends, pa.array(rows.tokens, pa.string())),
            "input_ids": pa.ListArray.from_arrays(ends, pa.array(rows.input_ids.numpy(), pa.int32())),
        }
        for name, states in rows.states.items():
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(states.numpy().reshape(-1)), states.shape[1])
            columns[name] = pa.ListArray.from_arrays(ends, vectors)
        batch = pa.record_batch(columns)
        self._writer = self._writer or pa.ipc.new_stream(self._file, batch.schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class SafetensorsShard:
    """Writes one file at its end; until then its rows are in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[TrackedRows] = []

    def write(self, rows: TrackedRows) -> None:
        self._rows.append(rows)

    def close(self) -> None:
        tensors = {name: torch.cat([getattr(rows, name) for rows in self._rows]) for name in _NUMBERS}
        for name in self._rows[0].states:
            tensors[name] = torch.cat([rows.states[name] for rows in self._rows])
        tokens = [token for rows in self._rows for token in rows.tokens]
        save_file(tensors, self._path, metadata={"tokens": json.dumps(tokens, ensure_ascii=False)})
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())


_NUMBERS = ("row", "lengths", "input_ids")
WRITERS = {ARROW: ArrowShard, SAFETENSORS: SafetensorsShard}


def read_shard(path: Path) -> Iterator[TrackedRows]:
    """The rows of one file, in the pieces in which they were written."""
    if path.suffix == f".{SAFETENSORS}":
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            tokens = json.loads(file.metadata()["tokens"])
        numbers = {name: tensors.pop(name) for name in _NUMBERS}
        yield TrackedRows(**numbers, tokens=tokens, states=tensors)
        return
    with pa.memory_map(str(path)) as file:
        for batch in pa.ipc.open_stream(file):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            row, tokens, ids = columns.pop("row"), columns.pop("tokens"), columns.pop("input_ids")
            yield TrackedRows(
                row=torch.tensor(row.to_numpy()),
                lengths=torch.tensor(np.diff(ids.offsets.to_numpy()), dtype=torch.int64),
                input_ids=torch.tensor(ids.flatten().to_numpy()),
                tokens=tokens.flatten().to_pylist(),
                states={name: _vectors(column) for name, column in columns.items()},
            )


def _vectors(column: pa.ListArray) -> torch.Tensor:
    vectors = column.flatten()
    return torch.tensor(vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size))
