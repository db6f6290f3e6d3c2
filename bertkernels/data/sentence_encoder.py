"""Token ids of sentences, fast: words that were met before are not tokenised again."""

import json
from itertools import chain

from tokenizers import Tokenizer

_KEPT_WORDS = 200_000  # some 40 MB, twice


class SentenceEncoder:
    """Turns sentences into token ids without special tokens.

    "[MASK]" and the like in the text are text, as in the original tokenizer. Takes the tokenizers library's own form of
    a tokenizer (JSON), so that processes that only read text need nothing else.
    """

    def __init__(self, tokenizer: str) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self._by_word = _splits_at_spaces(json.loads(tokenizer))
        # Tuples of numbers don't occupy the garbage collector. Of the older words those that come again are kept.
        self._words: dict[str, tuple[int, ...]] = {}
        self._older: dict[str, tuple[int, ...]] = {}

    def __call__(self, sentences: list[str]) -> list[list[int]]:
        if not self._by_word:
            return self._encode(sentences)
        split = [sentence.split(" ") for sentence in sentences]
        if len(self._words) > _KEPT_WORDS:
            self._older, self._words = self._words, {}
        missing = set(chain.from_iterable(split)) - self._words.keys()
        known = missing & self._older.keys()
        self._words.update((word, self._older[word]) for word in known)
        new = list(missing - known)
        self._words.update(zip(new, map(tuple, self._encode(new)), strict=True))
        find = self._words.__getitem__
        return [list(chain.from_iterable(map(find, words))) for words in split]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _splits_at_spaces(tokenizer: dict) -> bool:
    """Whether a sentence's tokens are those of its words: so it is with BERT's, where nothing looks past a space."""
    kinds = [(tokenizer[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    added = tokenizer.get("added_tokens") or []
    return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and all(token["special"] for token in added)
