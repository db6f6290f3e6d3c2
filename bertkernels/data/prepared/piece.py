"""One piece of text to examples: read, tokenise, pack, write. A function of the job and the piece's number alone."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bertkernels.data.example_builder import Example
from bertkernels.data.formats.registry import read
from bertkernels.data.packing import make_packer
from bertkernels.data.prepared.counts import Counts
from bertkernels.data.prepared.job import Job
from bertkernels.data.prepared.shards import ShardWriter
from bertkernels.data.sentence_encoder import SentenceEncoder

TRAIN, VALIDATION = SPLITS = ("train", "validation")
_BATCH_CHARACTERS = 1 << 20  # of sentences that are tokenised at once
_BATCH_LINES = 4096
_REPORT_SECONDS = 1.0


def shard_name(number: int) -> str:
    return f"piece-{number:06d}.arrow"


def prepare_piece(
    job: Job, number: int, encoder: SentenceEncoder, folder: Path, report: Callable[[int], None]
) -> dict[str, dict]:
    """Writes `folder/SPLIT-piece-NUMBER.arrow` for each split that gets examples; returns its counts by split.

    `report` is told now and then how many documents were read since it was told last. Raises InputError for bad text.
    """
    outputs: dict[str, _Output] = {}
    try:
        splits = random.Random(f"{job.seed}/{number}/split")
        split, told, last = None, 0, time.monotonic()
        for line, ids in _encoded(read(job.pieces[number], job.options), encoder):
            if split is None:
                split = VALIDATION if job.validation_share and splits.random() < job.validation_share else TRAIN
                if split not in outputs:
                    outputs[split] = _Output(job, number, split, folder)
            if line:
                outputs[split].sentence(ids)
                continue
            outputs[split].end_document()
            split, told = None, told + 1
            if time.monotonic() - last > _REPORT_SECONDS:
                report(told)
                told, last = 0, time.monotonic()
        counts = {split: output.end() for split, output in outputs.items()}
        report(told)
        return counts
    finally:
        for output in outputs.values():
            output.discard_scratch()


def _encoded(lines: Iterator[str], encoder: SentenceEncoder) -> Iterator[tuple[str, list[int]]]:
    """Lines and their token ids ("" with none), tokenised many at once."""
    batch: list[str] = []
    characters = 0
    for line in lines:
        batch.append(line)
        characters += len(line)
        if characters > _BATCH_CHARACTERS or len(batch) > _BATCH_LINES:
            yield from zip(batch, encoder(batch), strict=True)
            batch, characters = [], 0
    yield from zip(batch, encoder(batch), strict=True)


class _Output:
    """The examples of one split of a piece, and their counts."""

    def __init__(self, job: Job, number: int, split: str, folder: Path) -> None:
        generator = random.Random(f"{job.seed}/{number}/{split}")
        self._scratch = folder / f"{split}-{number}"
        self._scratch.mkdir()
        passes = 1 if split == VALIDATION else None  # held-out text is seen once
        self._packer = make_packer(job.packing, job.cls_id, job.sep_id, generator, self._scratch, passes)
        shuffle = random.Random(f"{job.seed}/{number}/{split}/order") if job.shuffle else None
        self._writer = ShardWriter(folder / f"{split}-{shard_name(number)}", job.packing.name == "bert_pairs", shuffle)
        self._counts = Counts()
        self._sentences = 0  # of the document at hand

    def sentence(self, ids: list[int]) -> None:
        self._sentences += 1
        if not ids:
            self._counts.drop("sentences without tokens")
            return
        self._counts.sentences += 1
        self._counts.tokens += len(ids)
        for example in self._packer.add(ids):
            self._write(example)

    def end_document(self) -> None:
        if self._sentences:
            self._counts.documents += 1
        else:
            self._counts.drop("documents without text")
        self._sentences = 0
        for example in self._packer.end_document():
            self._write(example)

    def end(self) -> dict:
        if self._sentences:  # a part of a file may end within a document
            self.end_document()
        for example in self._packer.end():
            self._write(example)
        self._writer.close()
        self._counts.drop("tokens cut off", self._packer.cut_off)
        return self._counts.to_dict()

    def discard_scratch(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _write(self, example: Example) -> None:
        self._counts.examples += 1
        self._counts.example_tokens += len(example.input_ids)
        self._writer.write(example)
