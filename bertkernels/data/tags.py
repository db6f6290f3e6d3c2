"""Tags that mark spans of words (named entities, chunks), in the schemes that data sets use.

iob2: B- at a span's first word, I- at the others, O outside. iob1: B- only where the span before ends there and is of
the same type, else I-. bioes: E- at the last word and S- at the only one. bilou: the same with L- and U-.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SCHEMES = ("iob2", "iob1", "bioes", "bilou")
OUTSIDE = "O"
_PREFIXES = {"iob2": "BI", "iob1": "BI", "bioes": "BIES", "bilou": "BILU"}
_SPAN_TAG = re.compile(r"([BIESLU])-(.+)", re.DOTALL)


class Span(NamedTuple):
    """Words `begin` to before `end` of a sentence, and their type."""

    type: str
    begin: int
    end: int


def marks_spans(tag: str) -> bool:
    """Whether the tag has the form of one that marks spans."""
    return tag == OUTSIDE or _SPAN_TAG.fullmatch(tag) is not None


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans that a sentence's tags mark, whatever the scheme, and be the tags in order or not.

    As conlleval reads them: a span goes on where B or I is followed by I or E of the same type; any other tag but O
    begins one. (The original code takes I-X, I-Y for one span.)
    """
    found: list[Span] = []
    before, type_before = OUTSIDE, ""
    for position, tag in enumerate(tags):
        prefix, kind = _split(tag)
        if before in "BI" and prefix in "IEL" and kind == type_before:
            found[-1] = found[-1]._replace(end=position + 1)
        elif prefix != OUTSIDE:
            found.append(Span(kind, position, position + 1))
        before, type_before = prefix, kind
    return found


def span_tags(marked: Iterable[Span], length: int, scheme: str) -> list[str]:
    """The tags of a sentence of `length` words with these spans, which are in order and do not overlap."""
    tags = [OUTSIDE] * length
    before = Span("", -1, -1)
    for span in marked:
        first, inner, last, only = "B", "I", "I", "B"
        if scheme in ("bioes", "bilou"):
            last, only = ("E", "S") if scheme == "bioes" else ("L", "U")
        elif scheme == "iob1" and (before.end, before.type) != (span.begin, span.type):
            first = only = "I"
        size = span.end - span.begin
        prefixes = [only] if size == 1 else [first, *[inner] * (size - 2), last]
        tags[span.begin : span.end] = [f"{prefix}-{span.type}" for prefix in prefixes]
        before = span
    return tags


def illegal(tags: Sequence[str], scheme: str) -> list[int]:
    """Where the scheme would have another tag for the spans that these tags mark."""
    wanted = span_tags(spans(tags), len(tags), scheme)
    return [position for position, (tag, legal) in enumerate(zip(tags, wanted, strict=True)) if tag != legal]


def detect_scheme(sentences: Sequence[Sequence[str]]) -> str:
    """The scheme that has the fewest illegal tags among those that have all the prefixes.

    Raises ValueError where no scheme has them all.
    """
    prefixes = {_split(tag)[0] for tags in sentences for tag in tags} - {OUTSIDE}
    candidates = [scheme for scheme in SCHEMES if prefixes <= set(_PREFIXES[scheme])]
    if not candidates:
        raise ValueError(f"no scheme has all of the prefixes {', '.join(sorted(prefixes))}")
    return min(candidates, key=lambda scheme: sum(len(illegal(tags, scheme)) for tags in sentences))


def all_tags(types: Iterable[str], scheme: str) -> list[str]:
    """Every tag that a scheme has for spans of these types, O first."""
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in _PREFIXES[scheme])]


def _split(tag: str) -> tuple[str, str]:
    """Prefix and type."""
    found = _SPAN_TAG.fullmatch(tag)
    return (found[1], found[2]) if found else (OUTSIDE, "")
