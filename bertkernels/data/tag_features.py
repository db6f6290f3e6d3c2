"""Features of tagged sentences: a label on each word's first token, long sentences in windows."""

import logging
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import datasets
from transformers import PreTrainedTokenizerBase

from bertkernels.data.tagged_text import TaggedText

IGNORED = -100  # the label of tokens that have none
_logger = logging.getLogger(__name__)


class Window(NamedTuple):
    """Words `begin` to before `end` are read together; of those, `first` to before `last` get their tags here."""

    begin: int
    end: int
    first: int
    last: int


def tag_features(
    text: TaggedText,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: Sequence[Sequence[int]] | None = None,
) -> datasets.Dataset:
    """[CLS] words [SEP] in segment 0, in order; a sentence that is too long in windows that overlap.

    (The original code cuts such a sentence, at a wrong place, and has all in segment 1.)

    Args:
        labels: by sentence, one a word, `IGNORED` for none; None: they are unknown.

    Returns:
        Columns `input_ids`, `token_type_ids`, `attention_mask`; with labels `labels`, `IGNORED` but at the first tokens
        of words; `sentence`, the sentence's number; `word_positions`, the places of the first tokens of the words that
        get their tags in this window. Every word does in one of its sentence's windows, in their order.
    """
    pieces = _pieces(text, tokenizer)
    room = max_length - 2
    columns: dict[str, list] = {"input_ids": [], "labels": [], "sentence": [], "word_positions": []}
    several = cut = 0
    for number, sentence in enumerate(text.sentences):
        words = [pieces[word][:room] for word in sentence.words]
        cut += sum(len(pieces[word]) > room for word in sentence.words)
        found = list(windows([len(word) for word in words], room))
        several += len(found) > 1
        for window in found:
            inside = words[window.begin : window.end]
            ids = [tokenizer.cls_token_id, *(token for word in inside for token in word), tokenizer.sep_token_id]
            starts = list(accumulate(map(len, inside), initial=1))[:-1]
            positions = starts[window.first - window.begin : window.last - window.begin]
            columns["input_ids"].append(ids)
            columns["sentence"].append(number)
            columns["word_positions"].append(positions)
            if labels is not None:
                of_tokens = [IGNORED] * len(ids)
                for position, label in zip(positions, labels[number][window.first : window.last], strict=True):
                    of_tokens[position] = label
                columns["labels"].append(of_tokens)
    if several:
        _logger.warning(
            "%d of %d sentences have more than %d tokens: each is read in several windows",
            several,
            len(text),
            max_length,
        )
    if cut:
        _logger.warning("%d words of more than %d tokens are cut", cut, room)
    if labels is None:
        del columns["labels"]
    columns["token_type_ids"] = [[0] * len(ids) for ids in columns["input_ids"]]
    columns["attention_mask"] = [[1] * len(ids) for ids in columns["input_ids"]]
    return datasets.Dataset.from_dict(columns)


def windows(sizes: Sequence[int], room: int) -> Iterator[Window]:
    """Windows over words of these numbers of tokens, each of at most `room`, as few as overlaps allow.

    Neighbours share words of up to a quarter of the room: the first half of these gets its tags in the earlier window,
    the rest in the later one, so that all have words on both sides.
    """
    count, begin, first = len(sizes), 0, 0
    while True:
        end, used = begin, 0
        while end < count and used + sizes[end] <= room:
            used += sizes[end]
            end += 1
        if end == count:
            yield Window(begin, end, first, end)
            return
        shared = min(room // 4, room - sizes[end])  # the next window must reach beyond this one
        begin_next, overlap = end, 0
        while overlap + sizes[begin_next - 1] <= shared:
            begin_next -= 1
            overlap += sizes[begin_next]
        last = (begin_next + end) // 2
        yield Window(begin, end, first, last)
        begin, first = begin_next, last


def _pieces(text: TaggedText, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """The tokens of every word; the unknown token of one that the tokenizer makes nothing of."""
    words = list(dict.fromkeys(word for sentence in text.sentences for word in sentence.words))
    found = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
    return {word: ids or [tokenizer.unk_token_id] for word, ids in zip(words, found, strict=True)}
