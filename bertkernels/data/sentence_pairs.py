"""Packs pairs of segments for next-sentence prediction.

Source: BERT (Devlin et al. 2019, §3.1, A.2) and its released data creation.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from bertkernels.data.document_store import DocumentStore
from bertkernels.data.example_builder import Example

_TRIES = 10  # to draw another document
_SHORTEST_TARGET = 2


class SentencePairs:
    """[CLS] first [SEP] second [SEP]; half of the seconds follow (label 0), half are from elsewhere (label 1).

    A document's sentences are gathered up to the target length: `max_length` less three, or, with `short_seq_prob`, a
    number drawn from 2 to that, once a document. They are divided at a random sentence; a single one always gets a
    second segment from elsewhere. That starts at a random sentence of another document among those that were added
    (up to ten draws; of a single document it may be the same one), and the sentences it takes the place of are used
    again. What is too long loses tokens of the longer segment, at front or back by a coin flip. All of it is done
    `passes` times, each time with other draws.

    Documents wait in a file in `scratch` until `end`, which yields the examples.
    """

    def __init__(
        self,
        max_length: int,
        cls_id: int,
        sep_id: int,
        generator: random.Random,
        scratch: Path,
        passes: int = 10,
        short_seq_prob: float = 0.1,
    ) -> None:
        self.cut_off = 0
        self._room = max_length - 3
        self._cls_id, self._sep_id = cls_id, sep_id
        self._generator, self._passes, self._short_seq_prob = generator, passes, short_seq_prob
        self._documents = DocumentStore(scratch)

    def add(self, sentence: list[int]) -> tuple[()]:
        self._documents.add(sentence)
        return ()

    def end_document(self) -> tuple[()]:
        self._documents.end_document()
        return ()

    def end(self) -> Iterator[Example]:
        self._documents.end_document()
        self._documents.finish()
        try:
            for _ in range(self._passes):
                for document in range(len(self._documents)):
                    yield from self._pairs(document)
        finally:
            self._documents.close()

    def _pairs(self, document: int) -> Iterator[Example]:
        draw = self._generator
        short = draw.random() < self._short_seq_prob
        target = draw.randint(_SHORTEST_TARGET, self._room) if short else self._room
        chunk: list[list[int]] = []
        length, count, number = 0, self._documents.sentence_count(document), 0
        while number < count:
            chunk.append(self._documents.sentence(document, number))
            length += len(chunk[-1])
            number += 1
            if number < count and length < target:
                continue
            firsts = draw.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
            first = [token for sentence in chunk[:firsts] for token in sentence]
            elsewhere = len(chunk) == 1 or draw.random() < 0.5
            if elsewhere:
                second = self._from_elsewhere(document, target - len(first))
                number -= len(chunk) - firsts
            else:
                second = [token for sentence in chunk[firsts:] for token in sentence]
            yield self._example(first, second, int(elsewhere))
            chunk, length = [], 0

    def _from_elsewhere(self, document: int, length: int) -> list[int]:
        for _ in range(_TRIES):
            other = self._generator.randint(0, len(self._documents) - 1)
            if other != document:
                break
        second: list[int] = []
        count = self._documents.sentence_count(other)
        for number in range(self._generator.randint(0, count - 1), count):
            second += self._documents.sentence(other, number)
            if len(second) >= length:
                break
        return second

    def _example(self, first: list[int], second: list[int], label: int) -> Example:
        sides = [[0, len(first)], [0, len(second)]]
        for _ in range(len(first) + len(second) - self._room):
            (a, b), (c, d) = sides
            longer = sides[0] if b - a > d - c else sides[1]
            if self._generator.random() < 0.5:
                longer[0] += 1
            else:
                longer[1] -= 1
            self.cut_off += 1
        first, second = first[slice(*sides[0])], second[slice(*sides[1])]
        head = [self._cls_id, *first, self._sep_id]
        return Example([*head, *second, self._sep_id], len(head), label)
