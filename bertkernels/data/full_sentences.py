"""Packs one segment of full sentences, up to the length of an example.

Source: RoBERTa (Liu et al. 2019, §4.2), FULL-SENTENCES and DOC-SENTENCES.
"""

from collections.abc import Iterator

from bertkernels.data.example_builder import Example


class FullSentences:
    """[CLS] sentence sentence … [SEP], of as many sentences as fit.

    `across`: an example goes on with the next document, after a [SEP] between them; otherwise a document's end also
    ends its example. A sentence longer than an example is cut into parts, so that no text is lost.
    """

    cut_off = 0

    def __init__(self, max_length: int, cls_id: int, sep_id: int, across: bool) -> None:
        self._room = max_length - 2
        self._cls_id, self._sep_id, self._across = cls_id, sep_id, across
        self._ids: list[int] = []
        self._ended = False  # whether a document ended after the last of these ids

    def add(self, sentence: list[int]) -> Iterator[Example]:
        separator = [self._sep_id] if self._ended and self._ids else []
        if len(self._ids) + len(separator) + len(sentence) > self._room:
            yield from self._flush()
            separator = []
        self._ended = False
        while len(sentence) > self._room:
            self._ids, sentence = sentence[: self._room], sentence[self._room :]
            yield from self._flush()
        self._ids += separator + sentence

    def end_document(self) -> Iterator[Example]:
        if self._across:
            self._ended = True
        else:
            yield from self._flush()

    def end(self) -> Iterator[Example]:
        yield from self._flush()

    def _flush(self) -> Iterator[Example]:
        if self._ids:
            ids = [self._cls_id, *self._ids, self._sep_id]
            self._ids = []
            yield Example(ids, len(ids))
