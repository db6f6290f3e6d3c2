"""Packs tokenised sentences into pre-training examples: one or two segments of consecutive sentences.

Source: ELECTRA (Clark et al., 2020) and its released example builder; ConvBERT's released variant of it.
"""

import random
from dataclasses import dataclass

RULES = ("electra", "convbert")
_SINGLE_SEGMENT = 0.1  # share of examples that get one segment only, as in single-sentence tasks
_SHORT_TARGET = 0.05  # share of examples that aim at a random, shorter length
_SHORTEST_TARGET = 5
_NO_LIMIT = 100_000


@dataclass(frozen=True)
class Example:
    """[CLS] first [SEP] (second [SEP]), unpadded; the first `first_length` positions are of segment 0, others of 1.

    `next_sentence_label`, of sentence pairs only: 1 where the second segment is from elsewhere, 0 where it follows.
    """

    input_ids: list[int]
    first_length: int
    next_sentence_label: int | None = None


class ExampleBuilder:
    """Collects sentences until they fill an example.

    An example is full when its sentences reach the target length, which is `max_length` or, for one example in twenty,
    drawn from 5 to `max_length`; a document's end also ends its example. A sentence goes to the first segment if that
    is empty or the sentence still fits its target, or on a coin flip where it is the one that would cross over; all
    others go to the second. What is too long is cut off.

    `packing="convbert"` is the released ConvBERT code's rule, where both tests for an empty segment are inverted: most
    pairs collapse into one segment and some examples begin with an empty one. It is there to repeat what the published
    weights may have been trained on.

    `generator` is drawn from exactly as in the original programs, so one seed gives the same examples.
    """

    def __init__(
        self, max_length: int, cls_id: int, sep_id: int, generator: random.Random, packing: str = "electra"
    ) -> None:
        if packing not in RULES:
            raise ValueError(f"packing must be one of {', '.join(RULES)}, not {packing!r}")
        if max_length < _SHORTEST_TARGET:
            raise ValueError(f"max_length must be at least {_SHORTEST_TARGET}, not {max_length}")
        self.max_length = max_length
        self.target_length = max_length
        self._cls_id, self._sep_id = cls_id, sep_id
        self._generator = generator
        self._inverted = packing == "convbert"
        self._sentences: list[list[int]] = []
        self._length = 0
        self.cut_off = 0  # tokens that found no room

    def add(self, sentence: list[int]) -> Example | None:
        """Takes the token ids of one sentence; returns an example if that filled it."""
        self._sentences.append(sentence)
        self._length += len(sentence)
        return self._build() if self._length >= self.target_length else None

    def end_document(self) -> Example | None:
        """Returns what is left of the document as a last example, if anything is."""
        return self._build() if self._length else None

    def _build(self) -> Example:
        draw = self._generator.random
        first_target = _NO_LIMIT if draw() < _SINGLE_SEGMENT else (self.target_length - 3) // 2
        first: list[int] = []
        second: list[int] = []
        for sentence in self._sentences:
            goes_first = bool(first) == self._inverted or len(first) + len(sentence) < first_target
            if not goes_first and bool(second) == self._inverted and len(first) < first_target:
                goes_first = draw() < 0.5
            (first if goes_first else second).extend(sentence)
        del first[self.max_length - 2 :]
        del second[max(0, self.max_length - len(first) - 3) :]
        self.cut_off += self._length - len(first) - len(second)

        self._sentences, self._length = [], 0
        short = draw() < _SHORT_TARGET
        self.target_length = self._generator.randint(_SHORTEST_TARGET, self.max_length) if short else self.max_length

        head = [self._cls_id, *first, self._sep_id]
        return Example([*head, *second, self._sep_id] if second else head, len(head))
