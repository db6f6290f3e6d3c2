"""Features of questions: every text in overlapping windows behind its question, as BERT's and ELECTRA's code cuts them.

[CLS] question [SEP] window [SEP]; the numbers of windows, tokens and answers equal the original's. Texts are tokenised
once however many questions ask about them.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from bertkernels.data.questions import AnswerSpan, QuestionSet
from bertkernels.errors import InputError

_SPACES = " \t\r\n\u202f"  # what parts words in the original
_SPECIAL_TOKENS = 3
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowSizes:
    """max_length: tokens of a feature. max_query_length: longer questions are cut. doc_stride: from one to the next."""

    max_length: int
    max_query_length: int = 64
    doc_stride: int = 128


def question_features(
    questions: QuestionSet, tokenizer: PreTrainedTokenizerBase, sizes: WindowSizes, training: bool
) -> datasets.Dataset:
    """Features of all windows, question by question.

    Columns: input_ids, token_type_ids (1: text and the last [SEP]), start_positions, end_positions (0 where the window
    does not hold the whole answer), is_impossible. For evaluation also `question`, its number; `text_position`, the
    window's first token among input_ids; `text_token`, the same among the text's tokens; and `begins` and `ends`, the
    characters of the text that each of the window's tokens stands for.

    Training questions whose answer is not where it is said to be are left out, with a warning, as in the original.
    Raises InputError where sizes leave no room for the text.
    """
    if sizes.max_length - sizes.max_query_length - _SPECIAL_TOKENS < 1:
        raise InputError(
            f"a length of {sizes.max_length} leaves no room for text beside questions of up to "
            f"{sizes.max_query_length} tokens (--max_query_length)"
        )
    asked = _encode(tokenizer, [question.text for question in questions.questions])
    used = sorted({question.context for question in questions.questions})
    texts = dict(zip(used, _encode(tokenizer, [questions.contexts[number] for number in used]), strict=True))
    words = {number: _Words(questions.contexts[number], texts[number].begins) for number in used}
    answers = _encode(tokenizer, [question.span.text if question.span else "" for question in questions.questions])
    rows = _Rows(training)
    cls, sep = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    lost = []
    for number, question in enumerate(questions.questions):
        query = asked[number].ids[: sizes.max_query_length]
        text = texts[question.context]
        span = None
        if question.span is not None:
            if not _stands_there(question.span, questions.contexts[question.context]):
                lost.append(question)
                if training:
                    continue
            else:
                span = words[question.context].tokens(question.span)
                span = _tightened(text.ids, *span, answers[number].ids)
        before = np.concatenate([cls, query, sep])
        for begin, end in windows(len(text.ids), sizes.max_length - len(query) - _SPECIAL_TOKENS, sizes.doc_stride):
            whole = span is not None and begin <= span[0] and span[1] < end
            shift = len(before) - begin
            rows.add(
                ids=np.concatenate([before, text.ids[begin:end], sep]),
                text_position=len(before),
                answer=(span[0] + shift, span[1] + shift) if whole else (0, 0),
                impossible=question.is_impossible,
                question=number,
                text_token=begin,
                begins=text.begins[begin:end],
                ends=text.ends[begin:end],
            )
    if lost:
        _logger.warning(
            "%d of %d questions have an answer that does not stand where it is said to%s, such as %s",
            len(lost),
            len(questions),
            "; they are left out" if training else "",
            lost[0].place,
        )
    return rows.dataset()


def windows(tokens: int, size: int, stride: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of each window over a text of so many tokens; a text without tokens has one that is empty."""
    begin = 0
    while True:
        end = min(begin + size, tokens)
        yield begin, end
        if end == tokens:
            return
        begin += min(end - begin, stride)


def has_most_context(window: int, begins: list[int], lengths: list[int]) -> np.ndarray:
    """Whether each token of a window has more context there than in any other window of the same text; bool [length].

    Context is min(tokens before, tokens after) + 0.01 · the window's length; of equals, the first window counts.

    Args:
        window: which of the windows, whose first tokens are `begins` and which are `lengths` tokens long.
    """
    tokens = np.arange(begins[window], begins[window] + lengths[window])
    scores = np.stack([_context(tokens, begin, length) for begin, length in zip(begins, lengths, strict=True)])
    return scores.argmax(0) == window


def _context(tokens: np.ndarray, begin: int, length: int) -> np.ndarray:
    before, after = tokens - begin, begin + length - 1 - tokens
    return np.where((before >= 0) & (after >= 0), np.minimum(before, after) + 0.01 * length, -1.0)


@dataclass(frozen=True)
class _Tokens:
    ids: np.ndarray  # int32 [tokens]
    begins: np.ndarray  # int32 [tokens]: a token's first character
    ends: np.ndarray  # int32 [tokens]: the one after its last


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[_Tokens]:
    """Tokens of each text, in parallel; what looks like a special token is text like any other."""
    if not texts:
        return []
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        truncation=False,
        padding=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    found = []
    for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        places = np.array(offsets, dtype=np.int32).reshape(-1, 2)
        found.append(_Tokens(np.array(ids, dtype=np.int32), places[:, 0], places[:, 1]))
    return found


class _Words:
    """Which tokens the words around an answer are: words are what the original's kinds of white space part."""

    def __init__(self, text: str, token_begins: np.ndarray) -> None:
        letters = ~np.isin(np.array(list(text)), list(_SPACES))  # bool [characters]
        first = letters & ~np.concatenate([[False], letters[:-1]]) if len(letters) else letters
        self._begins = np.flatnonzero(first)  # [words]
        # a word's first token; white space belongs to the word before it
        self._token = np.append(np.searchsorted(token_begins, self._begins), len(token_begins))

    def tokens(self, span: AnswerSpan) -> tuple[int, int]:
        """The first and the last token of the words that the answer touches."""
        first, last = np.searchsorted(self._begins, [span.begin, span.begin + len(span.text) - 1], side="right") - 1
        return int(self._token[max(first, 0)]), int(self._token[max(last, 0) + 1]) - 1


def _tightened(text: np.ndarray, first: int, last: int, answer: np.ndarray) -> tuple[int, int]:
    """The first place within [first, last] where the answer's own tokens stand, else [first, last] itself.

    So "1895" is found in "(1895-1943)."; what is part of a token, as "Japan" in "Japanese", is not.
    """
    for begin in range(first, last - len(answer) + 2 if len(answer) else first):
        if np.array_equal(text[begin : begin + len(answer)], answer):
            return begin, begin + len(answer) - 1
    return first, last


def _stands_there(span: AnswerSpan, text: str) -> bool:
    return text[span.begin : span.begin + len(span.text)].lower() == span.text.lower()


class _Rows:
    """Collects features and makes a table of them without a Python object a number."""

    def __init__(self, training: bool) -> None:
        self._training = training
        self._ids: list[np.ndarray] = []
        self._begins: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []
        self._numbers: list[tuple[int, ...]] = []

    def add(
        self,
        ids: np.ndarray,
        text_position: int,
        answer: tuple[int, int],
        impossible: bool,
        question: int,
        text_token: int,
        begins: np.ndarray,
        ends: np.ndarray,
    ) -> None:
        self._ids.append(ids)
        self._numbers.append((*answer, impossible, question, text_position, text_token))
        if not self._training:
            self._begins.append(begins)
            self._ends.append(ends)

    def dataset(self) -> datasets.Dataset:
        numbers = np.array(self._numbers, dtype=np.int32).reshape(-1, 6)
        types = [
            (np.arange(len(ids)) >= position).astype(np.int32)
            for ids, position in zip(self._ids, numbers[:, 4], strict=True)
        ]
        columns = {
            "input_ids": _lists(self._ids),
            "token_type_ids": _lists(types),
            "start_positions": pa.array(numbers[:, 0]),
            "end_positions": pa.array(numbers[:, 1]),
            "is_impossible": pa.array(numbers[:, 2]),
        }
        if not self._training:
            columns |= {
                "question": pa.array(numbers[:, 3]),
                "text_position": pa.array(numbers[:, 4]),
                "text_token": pa.array(numbers[:, 5]),
                "begins": _lists(self._begins),
                "ends": _lists(self._ends),
            }
        return datasets.Dataset(datasets.table.InMemoryTable(pa.table(columns)))


def _lists(arrays: list[np.ndarray]) -> pa.Array:
    ends = np.cumsum([0, *(len(array) for array in arrays)])
    values = np.concatenate(arrays).astype(np.int32) if arrays else np.zeros(0, np.int32)
    return pa.LargeListArray.from_arrays(ends.astype(np.int64), values)
