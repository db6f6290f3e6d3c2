"""The ways to fill examples with text, by name."""

import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from bertkernels.data.example_builder import Example, ExampleBuilder
from bertkernels.data.full_sentences import FullSentences
from bertkernels.data.sentence_pairs import SentencePairs

PACKINGS = ("electra", "convbert", "bert_pairs", "full_sentences", "doc_sentences")
SHORTEST = 8  # the smallest max_length that every packing can fill


@dataclass(frozen=True)
class Packing:
    """How examples are filled.

    electra: one or two segments of consecutive sentences (`ExampleBuilder`); convbert: the released variant of it;
    bert_pairs: pairs for next-sentence prediction (`SentencePairs`), which alone reads `dupe_factor` and
    `short_seq_prob`; full_sentences and doc_sentences: one segment, filled up, across documents or within
    (`FullSentences`).
    """

    name: str = "electra"
    max_length: int = 128
    dupe_factor: int = 10
    short_seq_prob: float = 0.1

    def facts(self) -> dict:
        """What shapes examples: options that this packing does not read are left out."""
        facts = asdict(self)
        if self.name != "bert_pairs":
            del facts["dupe_factor"], facts["short_seq_prob"]
        return facts


class Packer(Protocol):
    """Takes sentences (token ids without special ones) and gives examples as they fill."""

    cut_off: int  # tokens that found no room in any example

    def add(self, sentence: list[int]) -> Iterable[Example]: ...

    def end_document(self) -> Iterable[Example]: ...

    def end(self) -> Iterable[Example]: ...


def make_packer(
    packing: Packing, cls_id: int, sep_id: int, generator: random.Random, scratch: Path, passes: int | None = None
) -> Packer:
    """A packer for one piece of text. `scratch`: a folder for what must wait on disk; `passes` for `dupe_factor`."""
    if packing.name == "bert_pairs":
        passes = passes or packing.dupe_factor
        return SentencePairs(packing.max_length, cls_id, sep_id, generator, scratch, passes, packing.short_seq_prob)
    if packing.name in ("full_sentences", "doc_sentences"):
        return FullSentences(packing.max_length, cls_id, sep_id, across=packing.name == "full_sentences")
    return _Segments(ExampleBuilder(packing.max_length, cls_id, sep_id, generator, packing.name))


class _Segments:
    def __init__(self, builder: ExampleBuilder) -> None:
        self._builder = builder

    @property
    def cut_off(self) -> int:
        return self._builder.cut_off

    def add(self, sentence: list[int]) -> Iterable[Example]:
        example = self._builder.add(sentence)
        return () if example is None else (example,)

    def end_document(self) -> Iterable[Example]:
        example = self._builder.end_document()
        return () if example is None else (example,)

    def end(self) -> Iterable[Example]:
        return ()
