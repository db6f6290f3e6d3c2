"""Prepares a text: pieces that are not done yet are dealt out to processes, and a folder is filled."""

import contextlib
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from bertkernels.data.cache import fingerprint
from bertkernels.data.packing import Packing
from bertkernels.data.prepared.folder import (
    LOCK,
    STAGING,
    FinishedPieces,
    Prepared,
    check_folder,
    clear_folder,
    open_prepared,
    read_manifest,
    write_manifest,
    write_splits,
)
from bertkernels.data.prepared.job import Job
from bertkernels.data.prepared.piece import shard_name
from bertkernels.data.prepared.summary import summarise
from bertkernels.data.prepared.workers import prepare_pieces
from bertkernels.data.text_source import TextSource
from bertkernels.errors import InputError, OutputError

_FORMAT_VERSION = 2  # raise it whenever the same text and options give other examples


def prepared_facts(
    source: TextSource,
    tokenizer: PreTrainedTokenizerBase,
    packing: Packing,
    seed: int,
    validation_share: float = 0.0,
    shuffle: bool = False,
) -> dict:
    """All that shapes the examples."""
    return {
        "format": _FORMAT_VERSION,
        "text": source.fingerprint,
        "tokenizer": fingerprint(tokenizer.backend_tokenizer.to_str()),
        "packing": packing.facts(),
        "seed": seed,
        "validation_share": validation_share,
        "shuffle": shuffle,
    }


def prepare(
    source: TextSource,
    tokenizer: PreTrainedTokenizerBase,
    packing: Packing,
    folder: Path,
    *,
    seed: int = 0,
    validation_share: float = 0.0,
    shuffle: bool = False,
    num_workers: int = 1,
    overwrite: bool = False,
) -> Prepared:
    """Fills `folder` with the examples of `source`, or goes on with what is there, or returns it if it is complete.

    The examples do not depend on the number of workers, nor on where earlier runs were stopped. Raises InputError for
    text that cannot be read or gives no example, and for a folder that holds something else (see `check_folder`);
    OutputError where the folder cannot be written.
    """
    facts = prepared_facts(source, tokenizer, packing, seed, validation_share, shuffle)
    key = fingerprint(facts)
    check_folder(folder, key, overwrite)
    with _writing(folder), _locked(folder):
        check_folder(folder, key, overwrite)
        manifest = read_manifest(folder) if not overwrite else None
        if manifest is not None and manifest["complete"]:
            return open_prepared(folder)
        if manifest is None:
            clear_folder(folder)
            manifest = {
                "fingerprint": key,
                "complete": False,
                "facts": facts,
                "text": source.name,
                "inputs": source.inputs,
                "pieces": len(source.pieces),
            }
            write_manifest(folder, manifest)
        tokenizer.save_pretrained(folder)
        job = Job(
            pieces=source.pieces,
            options=source.options,
            tokenizer=tokenizer.backend_tokenizer.to_str(),
            cls_id=tokenizer.cls_token_id,
            sep_id=tokenizer.sep_token_id,
            packing=packing,
            seed=seed,
            validation_share=validation_share,
            shuffle=shuffle,
        )
        finished = _finish(job, folder, num_workers, source.name)
        counts = [finished.counts[number] for number in range(len(source.pieces))]
        summary = summarise(counts, packing.max_length)
        _check_splits(summary, source.name, validation_share, folder)
        shards = {split: _order(counts, split, job) for split in summary["splits"]}
        write_splits(folder, shards, key, summary)
        write_manifest(folder, manifest | {"complete": True})
        return open_prepared(folder)


def _finish(job: Job, folder: Path, num_workers: int, name: str) -> FinishedPieces:
    """Prepares the pieces that are not done."""
    finished = FinishedPieces(folder)
    for stale in folder.glob(f"{STAGING}*"):
        shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink()
    # The largest first, so that the processes end together.
    todo = sorted(set(range(len(job.pieces))) - set(finished.counts), key=lambda number: -job.pieces[number].size)
    total = sum(piece.size for piece in job.pieces)
    done = total - sum(job.pieces[number].size for number in todo)
    documents = 0
    with (
        tempfile.TemporaryDirectory(prefix=STAGING, dir=folder) as staging,
        tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=f"preparing {name}"[:60]) as bar,
    ):

        def report(count: int) -> None:
            nonlocal documents
            documents += count
            bar.set_postfix(documents=f"{documents:,}")

        for number, counts in prepare_pieces(job, todo, Path(staging), num_workers, report):
            finished.add(number, counts, Path(staging))
            bar.update(job.pieces[number].size)
    finished.put_in_order()
    return finished


def _check_splits(summary: dict, name: str, validation_share: float, folder: Path) -> None:
    if "train" not in summary["splits"]:
        clear_folder(folder)
        raise InputError(f"{name} is empty: there is no text in it to make examples of")
    if validation_share and "validation" not in summary["splits"]:
        raise InputError(
            f"{name}: none of its {summary['splits']['train']['documents']:,} documents was drawn for validation at a "
            f"share of {validation_share}; give more"
        )


def _order(counts: list[dict[str, dict]], split: str, job: Job) -> list[str]:
    """The names of a split's shards, in the order of the text or, if asked for, in a drawn one."""
    numbers = [number for number, piece in enumerate(counts) if piece.get(split, {}).get("examples")]
    if job.shuffle:
        random.Random(f"{job.seed}/{split}/pieces").shuffle(numbers)
    return [shard_name(number) for number in numbers]


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Makes the folder, and one sentence of what the file system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} could not be written ({error.strerror or error}); what is done is kept: run the same command "
            "again to go on with it"
        ) from error


def _locked(folder: Path) -> AcquireReturnProxy:
    """One process fills a folder; another one that comes waits for it."""
    lock = FileLock(folder / LOCK)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process is preparing it; waiting", file=sys.stderr, flush=True)
        return lock.acquire()
