"""What the teacher says of all training rows, kept on disk: it runs once, whatever is trained on that."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from bertkernels.data.cache import cached, fingerprint
from bertkernels.errors import InputError
from bertkernels.training.distillation.model import TEACHER_PREFIX, ask, head_outputs
from bertkernels.training.weights_digest import weights_digest

_FACTS = "teacher_logits.json"
_VERSION = 1
_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions", "is_impossible")
_AT_ONCE = 1000  # rows, for their fingerprint


def with_teacher_logits(
    features: datasets.Dataset,
    teacher: PreTrainedModel,
    folder: str | Path,
    collator: Callable,
    device: torch.device,
    batch_size: int,
    progress: bool,
) -> datasets.Dataset:
    """The features with a column "teacher_…" for each output of the teacher's head, from `folder` or into it.

    Args:
        collator: of the task; batches are padded on the right.

    Raises:
        InputError: what the folder holds is of another teacher or of other rows.
    """
    folder = Path(folder)
    names = [name for name in _INPUTS if name in features.column_names]
    rows = features.select_columns(names)
    facts = {
        "teacher": weights_digest(teacher),
        "rows": rows_digest(rows),
        "padding": teacher.config.padding,
        "version": _VERSION,
    }
    if folder.is_dir():
        _check(folder, facts)

    def build(target: Path) -> None:
        said = _ask_all(rows, teacher, collator, device, batch_size, progress)
        said.save_to_disk(str(target))
        (target / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    said = datasets.load_from_disk(str(cached(folder, build)))
    return datasets.concatenate_datasets([features, said], axis=1)


def _check(folder: Path, facts: dict[str, object]) -> None:
    try:
        found = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"--teacher_logits {folder} is there and holds no teacher's logits") from None
    other = [name for name, value in facts.items() if found.get(name) != value]
    if other:
        raise InputError(
            f"--teacher_logits {folder} is stale: it was made with other {', '.join(other)}; remove it, or name another"
        )


def _ask_all(
    rows: datasets.Dataset,
    teacher: PreTrainedModel,
    collator: Callable,
    device: torch.device,
    batch_size: int,
    progress: bool,
) -> datasets.Dataset:
    teacher.to(device).eval()
    values: dict[str, list[np.ndarray]] = {}
    loader = DataLoader(_Rows(rows), batch_size=batch_size, collate_fn=collator)
    for batch in tqdm(loader, desc="asking the teacher", disable=not progress):
        said = head_outputs(ask(teacher, {name: x.to(device) for name, x in batch.items()}))
        lengths = batch["attention_mask"].flatten(1).sum(-1).tolist()
        for name, x in said.items():
            if x.dim() > 2:
                raise InputError("--teacher_logits keeps what is said of texts, questions and choices, not tags")
            x = x.float().cpu().numpy()
            for row, length in zip(x, lengths, strict=True):
                of_tokens = batch["input_ids"].dim() == 2 and name in ("start_logits", "end_logits")
                values.setdefault(TEACHER_PREFIX + name, []).append(np.atleast_1d(row[:length] if of_tokens else row))
    return datasets.Dataset(pa.table({name: _lists(arrays) for name, arrays in values.items()}))


class _Rows(torch.utils.data.Dataset):
    """A data set's rows as dicts, which a loader batches by itself."""

    def __init__(self, rows: datasets.Dataset) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict:
        return self._rows[number]


def _lists(arrays: list[np.ndarray]) -> pa.Array:
    ends = np.cumsum([0, *map(len, arrays)])
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(np.concatenate(arrays), pa.float32()))


def rows_digest(rows: datasets.Dataset) -> str:
    """16 hexadecimal digits of everything in a data set's rows."""
    return fingerprint([hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in _parts(rows)])


def _parts(rows: datasets.Dataset) -> Iterator[dict[str, list]]:
    for begin in range(0, len(rows), _AT_ONCE):
        yield rows[begin : begin + _AT_ONCE]
