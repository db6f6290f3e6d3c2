"""Token ids of sentences and sentence pairs; those of large sets are kept between runs, by all that shapes them."""

import hashlib
import json
from itertools import chain
from pathlib import Path

import datasets
import tokenizers
from transformers import PreTrainedTokenizerBase

from bertkernels.cache_folder import cache_folder
from bertkernels.data.cache import cached, fingerprint
from bertkernels.data.pair_features import pair_features

_KEPT_FROM = 10_000  # rows: fewer are tokenised in less time than a progress bar takes to read
_VERSION = 2


def text_features(
    firsts: list[str],
    seconds: list[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    workers: int | None = None,
) -> datasets.Dataset:
    """`input_ids`, `attention_mask` and the like of each sentence, or of each pair where `seconds` is given.

    Tokenised in batches, with a progress bar, by `workers` processes (None: this one, whose tokenizer has threads of
    its own); their number changes nothing in the result. Pairs that are too long are cut as `pair_features` does.
    From 10,000 rows on the result is kept in the cache folder and mapped from there: of several processes let one go
    first, and the others need no memory for it.
    """
    key = fingerprint(
        {
            "texts": _digest(firsts, seconds),
            "pairs": seconds is not None,
            "tokenizer": _tokenizer_facts(tokenizer),
            "library": tokenizers.__version__,
            "max_length": max_length,
            "version": _VERSION,
        }
    )
    columns = {"first": firsts} if seconds is None else {"first": firsts, "second": seconds}

    def tokens(*texts: list[str]) -> dict[str, list]:
        if len(texts) == 2:
            return pair_features(tokenizer, *texts, max_length)
        return dict(tokenizer(*texts, truncation=True, max_length=max_length))

    def tokenise() -> datasets.Dataset:
        return datasets.Dataset.from_dict(columns).map(
            tokens,
            batched=True,
            input_columns=list(columns),
            remove_columns=list(columns),
            num_proc=workers,
            new_fingerprint=key,
            desc="tokenising",
        )

    def build(target: Path) -> None:
        tokenise().save_to_disk(str(target))

    if len(firsts) < _KEPT_FROM:
        return tokenise()
    return datasets.load_from_disk(str(cached(cache_folder() / f"features-{key}", build)))


def _digest(firsts: list[str], seconds: list[str] | None) -> str:
    digest = hashlib.sha256()
    for text in chain(firsts, seconds or ()):
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _tokenizer_facts(tokenizer: PreTrainedTokenizerBase) -> dict:
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    for setting in ("truncation", "padding"):  # left from an earlier call
        facts.pop(setting, None)
    return facts | {"inputs": tokenizer.model_input_names, "cut": tokenizer.truncation_side}
