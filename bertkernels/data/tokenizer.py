"""BERT WordPiece tokenizers: loaded from a directory or a vocabulary file, or trained on the text at hand."""

import itertools
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import BertWordPieceTokenizer, normalizers
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerBase

from bertkernels.cache_folder import cache_folder
from bertkernels.data.cache import cached, fingerprint
from bertkernels.errors import InputError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TRAINER_VERSION = 1
MAX_TEXTS = 2_000_000
_MAX_CHARACTERS = 1_000_000_000
_ALPHABET = 500  # characters that get a token of their own
_logger = logging.getLogger(__name__)


def load_tokenizer(name_or_path: str | os.PathLike) -> PreTrainedTokenizerBase:
    """A tokenizer saved by transformers (a directory), or one of the hub's by name.

    Raises InputError where there is none, or where it lacks the special tokens that BERT's examples are made of.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise InputError(f"no tokenizer could be loaded from {name_or_path}: {str(error).splitlines()[0]}") from error
    if not tokenizer.is_fast:
        raise InputError(f"the tokenizer of {name_or_path} is not of the tokenizers library, which is needed here")
    missing = [name for name in ("pad", "cls", "sep", "mask") if getattr(tokenizer, f"{name}_token_id") is None]
    if missing:
        raise InputError(f"the tokenizer of {name_or_path} has no {', '.join(missing)} token; BERT's are needed")
    return tokenizer


def read_vocabulary(path: str | os.PathLike) -> dict[str, int]:
    """Token -> id of a BERT `vocab.txt` (one token a line, the id is the line's number from 0).

    Carriage returns are dropped, and of a token that stands on several lines the last counts, both as in the original
    BERT reader; the latter is logged, for it means a damaged file. Raises InputError for a file that is missing, empty,
    not UTF-8 or lacks a special token.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    vocabulary = {line.strip(): number for number, line in enumerate(lines)}
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise InputError(f"{path} is no BERT vocabulary: it has {len(lines)} lines but no {', '.join(missing)}")
    if len(vocabulary) < len(lines):
        _logger.warning(
            "%s: %d of %d lines repeat a token (a damaged vocabulary?); the last line of each counts",
            path,
            len(lines) - len(vocabulary),
            len(lines),
        )
    return vocabulary


def tokenizer_from_vocabulary(
    vocabulary: dict[str, int], do_lower_case: bool = True, strip_accents: bool | None = None
) -> BertTokenizerFast:
    """BERT's tokenizer (clean, lower-case and strip accents, split at punctuation, WordPiece) over a vocabulary.

    `strip_accents` None: where it lower-cases.
    """
    return BertTokenizerFast(vocab=vocabulary, do_lower_case=do_lower_case, strip_accents=strip_accents)


def train_tokenizer(texts: Iterable[str], vocab_size: int, text_fingerprint: str) -> BertTokenizerFast:
    """A lower-case WordPiece tokenizer trained on `texts`, kept in the cache folder.

    It takes the first two million of them, or 10^9 characters. They are gone through twice and not held in memory;
    their distinct words are. `text_fingerprint` stands for the text in the cache's key. The same text gives the same
    vocabulary, with the same ids, on every run.
    """
    key = fingerprint({"text": text_fingerprint, "size": vocab_size, "trainer": _TRAINER_VERSION})

    def build(target: Path) -> None:
        trainer = BertWordPieceTokenizer(lowercase=True)
        # The library numbers continuation letters (##a, ...) in the order of a hash map, which differs from run to
        # run and decides ties between merges. Named here as if special they come first, in a fixed order.
        fixed = [*SPECIAL_TOKENS, *(f"##{letter}" for letter in _continuations(_first(texts), trainer.normalizer))]
        trainer.train_from_iterator(
            _batches(_first(texts)),
            vocab_size=vocab_size,
            special_tokens=fixed,
            limit_alphabet=_ALPHABET,
            show_progress=False,
        )
        by_id = sorted(trainer.get_vocab().items(), key=lambda item: item[1])
        target.write_text("".join(f"{token}\n" for token, _ in by_id), encoding="utf-8")

    return tokenizer_from_vocabulary(read_vocabulary(cached(cache_folder() / f"vocab-{key}.txt", build)))


def model_vocab_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Rows an embedding table needs: the largest id + 1 (a damaged vocabulary has fewer tokens than ids)."""
    return max(tokenizer.get_vocab().values()) + 1


def _first(texts: Iterable[str]) -> Iterator[str]:
    characters = 0
    for text in itertools.islice(texts, MAX_TEXTS):
        characters += len(text)
        if characters > _MAX_CHARACTERS:
            return
        yield text


def _continuations(texts: Iterable[str], normalizer: normalizers.Normalizer) -> list[str]:
    """The characters that may stand inside a word, the most frequent ones first."""
    counts: Counter[str] = Counter()
    for batch in _batches(texts):
        counts.update(normalizer.normalize_str(" ".join(batch)))
    inner = [letter for letter in counts if not (letter.isspace() or _stands_alone(letter))]
    return sorted(inner, key=lambda letter: (-counts[letter], letter))[:_ALPHABET]


def _stands_alone(letter: str) -> bool:
    # BERT splits at ASCII symbols and at Unicode punctuation; its normalizer sets spaces around ideographs.
    symbol = letter.isascii() and not letter.isalnum()
    return symbol or unicodedata.category(letter).startswith("P") or "\u4e00" <= letter <= "\u9fff"


def _batches(texts: Iterable[str], size: int = 1000) -> Iterator[list[str]]:
    batch = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
