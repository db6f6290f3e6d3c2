"""A folder of prepared examples, and what may be done with what is there.

manifest.json       what shaped the examples, a fingerprint of it, and whether they are all there
pieces.jsonl        the pieces of text that are done, with their counts
summary.json        what became of the text
train/, validation/ Arrow files; `datasets.load_from_disk` reads the folder, or each of them
tokenizer.json, …   the tokenizer
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from bertkernels.data.prepared.piece import SPLITS, TRAIN, VALIDATION, shard_name
from bertkernels.data.tokenizer import load_tokenizer
from bertkernels.errors import InputError

STAGING = ".writing-"
_MANIFEST, _PIECES, _SUMMARY = "manifest.json", "pieces.jsonl", "summary.json"
_DATASET_DICT = "dataset_dict.json"
LOCK = ".lock"


@dataclass(frozen=True)
class Prepared:
    """A complete folder: examples memory-mapped, tokenizer, and what is known of them."""

    folder: Path
    manifest: dict
    summary: dict
    train: datasets.Dataset
    validation: datasets.Dataset | None

    @property
    def max_length(self) -> int:
        return self.manifest["facts"]["packing"]["max_length"]

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.folder)


def open_prepared(folder: str | Path) -> Prepared:
    """Opens a folder that `bertkernels prepare` has finished. Raises InputError for any other."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder} holds no prepared examples: there is no {_MANIFEST} of `bertkernels prepare`")
    if not manifest["complete"]:
        raise InputError(f"{folder} is not finished: run the same `bertkernels prepare` again, which goes on with it")
    try:
        summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
        splits = {split: datasets.load_from_disk(str(folder / split)) for split in SPLITS if split in summary["splits"]}
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is damaged ({error}): remove it, or prepare it anew") from error
    return Prepared(folder, manifest, summary, splits[TRAIN], splits.get(VALIDATION))


def read_manifest(folder: Path) -> dict | None:
    """The manifest, if there is one. Raises InputError for a file of that name that is something else."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if not {"fingerprint", "facts", "complete"} <= set(manifest):
            raise ValueError("not a manifest of prepared examples")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / _MANIFEST}: {error}") from error
    return manifest


def write_manifest(folder: Path, manifest: dict) -> None:
    write_json(folder / _MANIFEST, manifest)


def check_folder(folder: Path, fingerprint: str, overwrite: bool) -> None:
    """Raises InputError for a folder that holds something else and may not be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file, expected a folder")
    if overwrite or not folder.is_dir() or not any(path.name != LOCK for path in folder.iterdir()):
        return
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(
            f"--output_dir {folder} is not empty: choose another, or write into it with --overwrite_output_dir"
        )
    if manifest["fingerprint"] != fingerprint:
        raise InputError(
            f"--output_dir {folder} holds examples of other text or options: choose another, or replace them with "
            "--overwrite_output_dir"
        )


def clear_folder(folder: Path) -> None:
    """Removes prepared examples; other files stay. The manifest goes first: what is left half-way is not trusted."""
    for name in (_MANIFEST, _SUMMARY, _PIECES, _DATASET_DICT):
        (folder / name).unlink(missing_ok=True)
    for path in [*(folder / split for split in SPLITS), *folder.glob(f"{STAGING}*")]:
        shutil.rmtree(path, ignore_errors=True)


def write_json(path: Path, content: object) -> None:
    """Writes a file whole or not at all."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=STAGING, delete=False) as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


class FinishedPieces:
    """The pieces that are done, with their counts by split; kept in the folder as they come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.counts: dict[int, dict[str, dict]] = {}
        for line in self._read():
            if all((folder / split / shard_name(line["piece"])).is_file() for split in line["counts"]):
                self.counts[line["piece"]] = line["counts"]

    def add(self, number: int, counts: dict[str, dict], written: Path) -> None:
        """Takes over the shards of a piece from the folder they were written to."""
        for split in counts:
            (self._folder / split).mkdir(exist_ok=True)
            os.replace(written / f"{split}-{shard_name(number)}", self._folder / split / shard_name(number))
        with open(self._folder / _PIECES, "a", encoding="utf-8") as file:
            # Begins with a line's end: the last line of a run that was killed may have none.
            file.write("\n" + json.dumps({"piece": number, "counts": counts}))
            file.flush()
            os.fsync(file.fileno())
        self.counts[number] = counts

    def put_in_order(self) -> None:
        """Writes them by their number: the same folder in whatever order they came."""
        path = self._folder / f"{STAGING}{_PIECES}"
        lines = (json.dumps({"piece": number, "counts": counts}) for number, counts in sorted(self.counts.items()))
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.replace(path, self._folder / _PIECES)

    def _read(self) -> list[dict]:
        path = self._folder / _PIECES
        found = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # cut short by the end of a run
        return found


def write_splits(folder: Path, shards: dict[str, list[str]], fingerprint: str, summary: dict) -> None:
    """What makes the Arrow files a data set of the datasets library, and the summary."""
    for split, names in shards.items():
        with pa.memory_map(str(folder / split / names[0])) as file:
            features = datasets.Features.from_arrow_schema(pa.ipc.open_stream(file).schema)
        state = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": f"{fingerprint}-{split}",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        }
        write_json(folder / split / "state.json", state)
        write_json(folder / split / "dataset_info.json", {"features": features.to_dict()})
    write_json(folder / _DATASET_DICT, {"splits": list(shards)})
    write_json(folder / _SUMMARY, summary)
