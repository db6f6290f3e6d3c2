"""Precision, recall and F1 of spans, as conlleval and seqeval define them."""

from collections import Counter
from collections.abc import Iterable, Sequence

from bertkernels.data.tags import Span


def span_metrics(true: Iterable[Sequence[Span]], found: Iterable[Sequence[Span]]) -> dict[str, float]:
    """Precision, recall and F1 of spans that agree in both ends and type, over all sentences; 0/0 is 0."""
    return _ratios(*(sum(counts.values()) for counts in _counts(true, found)))


def span_metrics_by_type(
    true: Iterable[Sequence[Span]], found: Iterable[Sequence[Span]]
) -> dict[str, dict[str, float]]:
    """The same for each type of span, and how many there are (`support`)."""
    right, wanted, said = _counts(true, found)
    return {
        kind: _ratios(right[kind], wanted[kind], said[kind]) | {"support": wanted[kind]}
        for kind in sorted(wanted | said)
    }


def _counts(true: Iterable[Sequence[Span]], found: Iterable[Sequence[Span]]) -> tuple[Counter, Counter, Counter]:
    """Spans by type: those found rightly, those there are, those found."""
    right, wanted, said = Counter(), Counter(), Counter()
    for true_spans, found_spans in zip(true, found, strict=True):
        right.update(span.type for span in set(true_spans) & set(found_spans))
        wanted.update(span.type for span in true_spans)
        said.update(span.type for span in found_spans)
    return right, wanted, said


def _ratios(right: int, wanted: int, said: int) -> dict[str, float]:
    return {
        "precision": right / said if said else 0.0,
        "recall": right / wanted if wanted else 0.0,
        "f1": 2 * right / (wanted + said) if wanted + said else 0.0,
    }
