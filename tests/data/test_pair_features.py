import pytest

from bertkernels.data.pair_features import cut_lengths, pair_features
from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary


def _popped(first: int, second: int, budget: int) -> tuple[int, int]:
    """BERT's own loop: from the longer, of equal ones from the second."""
    while first + second > budget:
        first, second = (first - 1, second) if first > second else (first, second - 1)
    return first, second


def test_lengths_are_those_of_the_loop():
    for budget in range(12):
        for first in range(10):
            for second in range(10):
                assert cut_lengths(first, second, budget) == _popped(first, second, budget)


@pytest.fixture
def tokenizer():
    names = [*SPECIAL_TOKENS, *"abcdefgh"]
    return tokenizer_from_vocabulary({name: number for number, name in enumerate(names)})


def test_pairs_that_fit_are_as_the_tokenizer_makes_them(tokenizer):
    firsts, seconds = ["a b", "", "c"], ["d e f", "g", ""]
    expected = tokenizer(firsts, seconds)
    assert pair_features(tokenizer, firsts, seconds, 32) == {name: expected[name] for name in expected}


def test_the_odd_token_stays_with_the_first_text(tokenizer):
    tokenizer(["a"], padding="max_length", truncation=True, max_length=4)  # what another call leaves set
    found = pair_features(tokenizer, ["a b c d"], ["e f g h"], 8)
    words = tokenizer.convert_ids_to_tokens(found["input_ids"][0])
    assert words == ["[CLS]", "a", "b", "c", "[SEP]", "e", "f", "[SEP]"]
    assert found["token_type_ids"] == [[0, 0, 0, 0, 0, 1, 1, 1]] and found["attention_mask"] == [[1] * 8]
