import random

import pytest

from bertkernels.data.tags import SCHEMES, Span, all_tags, detect_scheme, illegal, marks_spans, span_tags, spans

MARKED = [Span("X", 0, 1), Span("X", 1, 3), Span("Y", 3, 6), Span("X", 7, 8)]
TAGS = {
    "iob2": "B-X B-X I-X B-Y I-Y I-Y O B-X O",
    "iob1": "I-X B-X I-X I-Y I-Y I-Y O I-X O",
    "bioes": "S-X B-X E-X B-Y I-Y E-Y O S-X O",
    "bilou": "U-X B-X L-X B-Y I-Y L-Y O U-X O",
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_both_ways(scheme):
    tags = TAGS[scheme].split()
    assert span_tags(MARKED, 9, scheme) == tags
    assert spans(tags) == MARKED
    assert illegal(tags, scheme) == []
    assert detect_scheme([tags]) == scheme


@pytest.mark.parametrize("scheme", SCHEMES)
def test_random_spans_survive(scheme):
    generator = random.Random(1)
    for _ in range(300):
        cuts = sorted(generator.choices(range(12), k=6))
        marked = [Span(generator.choice("XY"), *ends) for ends in zip(cuts[:-1], cuts[1:], strict=True)]
        marked = [span for span in marked if span.begin < span.end and generator.random() < 0.7]
        tags = span_tags(marked, 12, scheme)
        assert spans(tags) == marked and illegal(tags, scheme) == []
        assert set(tags) <= set(all_tags("XY", scheme))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        # what conlleval makes of tags that are out of order, case by case
        ("O I-X I-X", [("X", 1, 3)]),
        ("I-X I-Y", [("X", 0, 1), ("Y", 1, 2)]),  # the original code has one span here
        ("B-X I-Y I-Y", [("X", 0, 1), ("Y", 1, 3)]),
        ("B-X O I-X", [("X", 0, 1), ("X", 2, 3)]),
        ("B-X B-X", [("X", 0, 1), ("X", 1, 2)]),
        ("E-X I-X", [("X", 0, 1), ("X", 1, 2)]),
        ("S-X E-X", [("X", 0, 1), ("X", 1, 2)]),
        ("B-X S-X I-X", [("X", 0, 1), ("X", 1, 2), ("X", 2, 3)]),
        ("I-X E-X E-X", [("X", 0, 2), ("X", 2, 3)]),
        ("B-X I-X O", [("X", 0, 2)]),
        ("B-a-b I-a-b", [("a-b", 0, 2)]),
        ("O O", []),
    ],
)
def test_spans_of_tags_that_are_out_of_order(tags, expected):
    assert spans(tags.split()) == expected


@pytest.mark.parametrize(
    ("scheme", "tags", "places"),
    [
        ("iob2", "O I-X I-X B-X I-Y", [1, 4]),
        ("iob1", "B-X I-X B-X O B-Y", [0, 4]),
        ("bioes", "B-X O I-X E-X S-X B-X I-X", [0, 2, 6]),
    ],
)
def test_illegal_tags(scheme, tags, places):
    assert illegal(tags.split(), scheme) == places


def test_the_scheme_is_that_with_the_fewest_illegal_tags():
    good = ["B-X I-X O".split()] * 3
    assert detect_scheme([*good, "O I-X".split()]) == "iob2"
    assert detect_scheme(["I-X I-X O I-X".split()]) == "iob1"
    assert detect_scheme(["O O".split()]) == "iob2"
    with pytest.raises(ValueError, match="no scheme has all of the prefixes E, L"):
        detect_scheme(["E-X L-X".split()])


def test_tags_that_mark_spans():
    assert all(map(marks_spans, ["O", "B-X", "U-creative-work", "E-\u2028"]))
    assert not any(map(marks_spans, ["NN", "X-B", "B-", "B", "o", ""]))
    assert all_tags(["A", "B"], "bioes") == "O B-A I-A E-A S-A B-B I-B E-B S-B".split()
