import pytest

from bertkernels.data.tags import spans
from bertkernels.training.tag_metrics import span_metrics, span_metrics_by_type


def metrics(true, found):
    return span_metrics([spans(true.split())], [spans(found.split())])


@pytest.mark.parametrize(
    ("true", "found", "right", "wanted", "said"),
    [
        ("B-X I-X O B-Y", "B-X I-X O B-Y", 2, 2, 2),
        ("B-X I-X O B-Y", "B-X O O B-Y", 1, 2, 2),  # one end is wrong
        ("B-X I-X O B-Y", "B-Y I-Y O B-Y", 1, 2, 2),  # the type is wrong
        ("B-X I-X O B-Y", "I-X I-X O I-Y", 2, 2, 2),  # tags are out of order, the spans are right
        ("B-X I-X I-X", "B-X I-Y I-Y", 0, 1, 2),  # the type changes within
        ("B-X I-X B-Y", "B-X I-X I-Y", 2, 2, 2),  # and where it should
        ("B-X B-X", "B-X I-X", 0, 2, 1),
        ("B-X O B-X", "B-X O O", 1, 2, 1),
        ("O O", "B-X O", 0, 0, 1),
        ("O O", "O O", 0, 0, 0),
    ],
)
def test_by_hand(true, found, right, wanted, said):
    expected = {
        "precision": right / said if said else 0.0,
        "recall": right / wanted if wanted else 0.0,
        "f1": 2 * right / (said + wanted) if said + wanted else 0.0,
    }
    assert metrics(true, found) == pytest.approx(expected)


def test_sentences_are_counted_together_and_kept_apart():
    true = [spans(["B-X", "I-X"]), spans(["B-X"]), spans(["B-Y", "O"])]
    found = [spans(["B-X", "I-X"]), spans(["O"]), spans(["B-X", "B-Y"])]
    assert span_metrics(true, found) == pytest.approx({"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3})
    by_type = span_metrics_by_type(true, found)
    assert by_type["X"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "support": 2})
    assert by_type["Y"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_a_type_that_only_one_side_has():
    assert span_metrics_by_type([spans(["B-X"])], [spans(["B-Y"])]) == {
        "X": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "Y": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
    }
