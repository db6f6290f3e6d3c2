"""Examples that are kept between runs, by all that shapes them."""

import os
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from bertkernels.cache_folder import cache_folder
from bertkernels.data.cache import fingerprint
from bertkernels.data.packing import Packing
from bertkernels.data.prepared.build import prepare, prepared_facts
from bertkernels.data.prepared.folder import Prepared
from bertkernels.data.text_source import TextSource

_WORTH_A_PROCESS = 4 << 20  # bytes of text


def pretraining_examples(
    source: TextSource,
    tokenizer: PreTrainedTokenizerBase,
    packing: Packing,
    *,
    seed: int = 0,
    validation_share: float = 0.0,
    folder: Path | None = None,
    num_workers: int | None = None,
) -> Prepared:
    """Examples of `source`, prepared once and kept in `folder` (default: the cache folder) under a fingerprint of all
    that shapes them: text, vocabulary, packing, seed. Raises InputError where the text gives none."""
    key = fingerprint(prepared_facts(source, tokenizer, packing, seed, validation_share))
    target = (folder or cache_folder()) / f"examples-{key}"
    workers = worker_count(source, num_workers)
    return prepare(
        source, tokenizer, packing, target, seed=seed, validation_share=validation_share, num_workers=workers
    )


def worker_count(source: TextSource, asked: int | None) -> int:
    """Processes to read text with: as many as asked for, else one a core where there is work for it."""
    work = sum(piece.size for piece in source.pieces) // _WORTH_A_PROCESS
    return asked or max(1, min(os.cpu_count() or 1, len(source.pieces), work))
