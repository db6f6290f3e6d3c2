import pytest

from bertkernels.data import text_features as module
from bertkernels.data.pair_features import pair_features
from bertkernels.data.text_features import text_features
from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary

_WORDS = [*"abcdefgh"]
_FIRSTS = [" ".join(_WORDS[row % 5 : 2 + row % 7]) for row in range(120)]
_SECONDS = [" ".join(_WORDS[: 1 + row % 8]) for row in range(120)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def large(monkeypatch):
    """Sets of this size are kept."""
    monkeypatch.setattr(module, "_KEPT_FROM", 100)


@pytest.fixture
def tokenizer():
    return tokenizer_from_vocabulary({token: number for number, token in enumerate([*SPECIAL_TOKENS, *_WORDS])})


@pytest.mark.parametrize("seconds", [None, _SECONDS])
@pytest.mark.parametrize("workers", [None, 2])
def test_they_are_what_the_tokenizer_says(tokenizer, cache, large, seconds, workers):
    if seconds is None:
        expected = tokenizer(_FIRSTS, truncation=True, max_length=9)
    else:
        expected = pair_features(tokenizer, _FIRSTS, seconds, 9)
    for _ in range(2):  # made, then found
        found = text_features(_FIRSTS, seconds, tokenizer, 9, workers)
        assert set(found.column_names) == set(expected)
        for name, values in expected.items():
            assert list(found[name]) == values
    assert len(list(cache.glob("features-*"))) == 1


def test_small_sets_are_not_kept(tokenizer, cache):
    assert len(text_features(_FIRSTS, None, tokenizer, 9)) == 120
    assert not cache.exists()


def test_what_shapes_them_is_never_taken_for_something_else(tokenizer, cache, large):
    cased = tokenizer_from_vocabulary(tokenizer.get_vocab(), do_lower_case=False)
    moved = [*_FIRSTS[:-2], " ".join(_FIRSTS[-2:]), ""]
    runs = [
        (_FIRSTS, None, tokenizer, 9),
        (_FIRSTS, None, tokenizer, 8),
        (_FIRSTS, _SECONDS, tokenizer, 9),
        (_FIRSTS + _SECONDS, None, tokenizer, 9),
        (_FIRSTS, None, cased, 9),
        (moved, None, tokenizer, 9),
    ]
    for number, run in enumerate(runs, start=1):
        text_features(*run)
        assert len(list(cache.glob("features-*"))) == number, run[1:]
    tokenizer(["a"], padding="max_length", truncation=True, max_length=4)  # leaves its mark on the tokenizer
    text_features(*runs[0])
    assert len(list(cache.glob("features-*"))) == len(runs)
