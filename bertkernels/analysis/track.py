"""Hidden states of a whole data set on disk: streamed, in shards, and going on where an earlier run was cut off."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from bertkernels.analysis.capture import Place
from bertkernels.analysis.token_pairs import token_pairs
from bertkernels.analysis.track_shards import FORMATS, WRITERS, TrackedRows, read_shard
from bertkernels.data.prepared.folder import STAGING, write_json
from bertkernels.errors import InputError
from bertkernels.training.weights_digest import weights_digest

if TYPE_CHECKING:
    from bertkernels.analysis.layers import LayeredModel

INPUT = "input"
_MANIFEST = "track.json"
_DTYPES = {torch.float32: "float32", torch.float16: "float16"}


def track_states(
    layered: LayeredModel,
    rows: Sequence[Mapping],
    collate: Callable[[list[Mapping]], Mapping[str, torch.Tensor]],
    tokenizer: PreTrainedTokenizerBase,
    places: Collection[Place],
    folder: str | Path,
    shard_format: str = "arrow",
    dtype: torch.dtype = torch.float32,
    batch_size: int = 32,
    shard_rows: int = 128,
    progress: bool = False,
) -> Path:
    """Writes the output of every place for every row's real tokens, and returns the folder.

    A run that was cut off is gone on with by the same call: whole shards stay, the others are written anew.
    `track_shards` says what is in the files, "states-00000.arrow" and so on; track.json says what they are of.

    Args:
        rows: encoded examples with `input_ids`.
        collate: batches of them as the model's arguments; what is padding has `attention_mask` 0.
        places: (block, site); the site "input" is what goes into a block, so (0, "input") is the embeddings' output.
        dtype: float32 or float16, on disk.

    Raises:
        InputError: an unknown format, dtype or site; nothing to track; a folder that holds something else, or the
            states of another model, other rows or other settings.
    """
    folder = Path(folder)
    if shard_format not in FORMATS:
        raise InputError(f"the format of shards must be one of {', '.join(FORMATS)}, got {shard_format!r}")
    if dtype not in _DTYPES:
        raise InputError(f"states are kept as {' or '.join(_DTYPES.values())}, not {dtype}")
    if not rows or not places:
        raise InputError("tracking needs rows and sites, got none")
    columns = {f"{block}.{site}": (block, site) for block, site in places}
    for block, site in places:
        layered.site(block, _captured(site))
    facts = {
        "weights": weights_digest(layered.model),
        "rows": _rows_digest(rows),
        "states": list(columns),
        "format": shard_format,
        "dtype": _DTYPES[dtype],
        "batch_size": batch_size,
        "shard_rows": shard_rows,
    }
    shards = _shards(len(rows), shard_rows, shard_format)
    _open_folder(folder, facts, list(shards))
    left = {name: numbers for name, numbers in shards.items() if not (folder / name).is_file()}
    for name, numbers in tqdm(left.items(), desc="tracking", unit="shard", disable=not progress):
        written = folder / f"{STAGING}{os.getpid()}-{name}"
        shard = WRITERS[shard_format](written)
        for start in range(0, len(numbers), batch_size):
            of_batch = numbers[start : start + batch_size]
            batch = collate([rows[number] for number in of_batch])
            shard.write(_tracked(layered, batch, of_batch, tokenizer, columns, dtype))
        shard.close()
        os.replace(written, folder / name)
    for unfinished in folder.glob(f"{STAGING}*"):  # of runs that were cut off
        unfinished.unlink()
    write_json(folder / _MANIFEST, {"facts": facts, "shards": list(shards), "complete": True})
    return folder


def read_track(folder: str | Path) -> Iterator[TrackedRows]:
    """Everything in a folder of `track_states`, in the rows' order. Raises InputError for one that is not finished."""
    folder = Path(folder)
    manifest = _manifest(folder)
    if manifest is None or not manifest["complete"]:
        raise InputError(f"{folder} holds no finished hidden states: track them with the same settings again")
    for name in manifest["shards"]:
        yield from read_shard(folder / name)


def _tracked(
    layered: LayeredModel,
    batch: Mapping[str, torch.Tensor],
    numbers: range,
    tokenizer: PreTrainedTokenizerBase,
    columns: Mapping[str, Place],
    dtype: torch.dtype,
) -> TrackedRows:
    captured = {(block, _captured(site)) for block, site in columns.values()}
    (found,) = token_pairs(layered, [batch], captured)
    states = {}
    for name, (block, site) in columns.items():
        pairs = found[block, _captured(site)]
        states[name] = (pairs.x if site == INPUT else pairs.y).to("cpu", dtype).contiguous()
    ids, mask = batch["input_ids"], batch.get("attention_mask")
    real = ids.flatten() if mask is None else ids[mask.bool()]
    return TrackedRows(
        row=torch.tensor(numbers),
        lengths=pairs.lengths.cpu(),
        input_ids=real.cpu().int(),
        tokens=tokenizer.convert_ids_to_tokens(real.tolist()),
        states=states,
    )


def _captured(site: str) -> str:
    return "encoder" if site == INPUT else site


def _shards(rows: int, shard_rows: int, shard_format: str) -> dict[str, range]:
    starts = range(0, rows, shard_rows)
    return {
        f"states-{number:05}.{shard_format}": range(start, min(start + shard_rows, rows))
        for number, start in enumerate(starts)
    }


def _open_folder(folder: Path, facts: dict, shards: list[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder for hidden states")
    manifest = _manifest(folder)
    if manifest is None:
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty and holds no hidden states: choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _MANIFEST, {"facts": facts, "shards": shards, "complete": False})
        return
    other = [name for name, value in facts.items() if manifest["facts"].get(name) != value]
    if other:
        raise InputError(f"{folder} holds hidden states with other {', '.join(other)}: choose another folder")


def _manifest(folder: Path) -> dict | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if not {"facts", "shards", "complete"} <= set(manifest):
            raise ValueError("it is no record of hidden states")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / _MANIFEST}: {error}") from error
    return manifest


def _rows_digest(rows: Sequence[Mapping]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        kept = {name: row[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in row}
        digest.update(json.dumps({name: list(map(int, values)) for name, values in kept.items()}).encode())
    return digest.hexdigest()
