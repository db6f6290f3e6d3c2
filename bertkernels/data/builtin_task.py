"""A classification task out of the built-in text: which library does this paragraph document?

The libraries' own names are masked out, so that the answer takes reading. Train and dev come from different source
files, and a dev text that shares eight consecutive words with a training text is dropped (libraries repeat themselves
from file to file).
"""

import hashlib
import random
import re
from collections.abc import Iterable

from bertkernels.data.builtin_text import LIBRARIES, SourceText, builtin_text

_MIN_WORDS, _MAX_WORDS = 8, 100
_SHARED_WORDS = 8
_DEV_FILES = 0.15
_OWN_NAMES = re.compile(
    r"\b[\w\-]*(?:torch|numpy|transformers|hugging[ -]?face|cpython)[\w\-]*|\b(?:python|stdlib|np|hf)\b", re.IGNORECASE
)


def builtin_task(
    seed: int = 0, train_per_class: int = 2000, dev_per_class: int = 250
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(text, library) examples for training and for evaluation: at most so many a class, drawn and mixed by `seed`.

    A library that has fewer paragraphs gives what it has; which files are for evaluation does not depend on the seed.
    """
    return split_task(builtin_text(), seed, train_per_class, dev_per_class)


def split_task(
    sources: Iterable[SourceText], seed: int, train_per_class: int, dev_per_class: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """`builtin_task` over the given sources."""
    train: dict[str, list[str]] = {library: [] for library in LIBRARIES}
    dev: dict[str, list[str]] = {library: [] for library in LIBRARIES}
    for source in sources:
        side = dev if _is_dev(source) else train
        for paragraph in source.paragraphs:
            text = mask_names(" ".join(paragraph))
            if _MIN_WORDS <= len(text.split()) <= _MAX_WORDS:
                side[source.library].append(text)
    trained_on = {shingle for texts in train.values() for text in texts for shingle in _shingles(text)}
    dev = {
        library: [text for text in texts if trained_on.isdisjoint(_shingles(text))] for library, texts in dev.items()
    }
    return _draw(train, train_per_class, seed), _draw(dev, dev_per_class, seed)


def mask_names(text: str) -> str:
    """The text with every name of one of the libraries replaced by the word "library"."""
    return _OWN_NAMES.sub("library", text)


def _is_dev(source: SourceText) -> bool:
    digest = hashlib.sha256(f"{source.library}/{source.file}".encode()).digest()
    return digest[0] < 256 * _DEV_FILES


def _shingles(text: str) -> Iterable[str]:
    words = text.lower().split()
    return (" ".join(words[i : i + _SHARED_WORDS]) for i in range(len(words) - _SHARED_WORDS + 1))


def _draw(texts: dict[str, list[str]], per_class: int, seed: int) -> list[tuple[str, str]]:
    generator = random.Random(seed)
    chosen = []
    for library, candidates in texts.items():
        distinct = sorted(set(candidates))
        chosen += [(text, library) for text in generator.sample(distinct, min(per_class, len(distinct)))]
    generator.shuffle(chosen)
    return chosen
