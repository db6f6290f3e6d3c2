import random

import pytest

from bertkernels.data.tag_features import tag_features, windows
from bertkernels.data.tagged_text import TaggedSentence, TaggedText
from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary

VOCABULARY = {token: number for number, token in enumerate([*SPECIAL_TOKENS, "a", "b", "##c", "x"])}


@pytest.fixture
def tokenizer():
    return tokenizer_from_vocabulary(VOCABULARY)


def text(*sentences):
    split = [sentence.split(" ") for sentence in sentences]
    return TaggedText([TaggedSentence(words, None, [[word] for word in words], "text") for words in split])


def tokens(row):
    names = list(VOCABULARY)
    return [names[number] for number in row]


def test_labels_stand_on_first_tokens(tokenizer):
    found = tag_features(text("a bcc x", "b"), tokenizer, 16, [[4, 5, 6], [7]])
    assert tokens(found[0]["input_ids"]) == "[CLS] a b ##c ##c x [SEP]".split()
    assert found[0]["labels"] == [-100, 4, 5, -100, -100, 6, -100]
    assert found[0]["word_positions"] == [1, 2, 5] and found["sentence"][:] == [0, 1]
    assert found[0]["token_type_ids"] == [0] * 7 and found[0]["attention_mask"] == [1] * 7
    assert "labels" not in tag_features(text("a"), tokenizer, 16).column_names


def test_words_that_the_tokenizer_makes_nothing_of(tokenizer):
    found = tag_features(text("a \u200d \ufe0f b"), tokenizer, 16, [[1, 2, 3, 4]])
    assert tokens(found[0]["input_ids"]) == "[CLS] a [UNK] [UNK] b [SEP]".split()
    assert found[0]["labels"] == [-100, 1, 2, 3, 4, -100]


def test_long_sentences_are_read_in_windows(tokenizer, caplog):
    words = ["a", "bc", "x", "b"] * 5
    labels = list(range(20))
    found = tag_features(text(" ".join(words), "a b"), tokenizer, 10, [labels, [0, 1]])
    assert "1 of 2 sentences have more than 10 tokens" in caplog.text
    long = [row for row in found if row["sentence"] == 0]
    assert len(long) > 2 and all(len(row["input_ids"]) <= 10 for row in long)
    labelled = [label for row in long for label in row["labels"] if label != -100]
    assert labelled == labels
    for row in long:
        firsts = [tokens(row["input_ids"])[position] for position in row["word_positions"]]
        given = [row["labels"][position] for position in row["word_positions"]]
        assert firsts == [words[label][0] for label in given]


def test_a_sentence_that_just_fits_is_not_cut(tokenizer, caplog):
    # 6 words of 8 tokens, and [CLS] and [SEP]: whoever counts words, or forgets the two, cuts elsewhere
    fits = tag_features(text("a bc a bc a a"), tokenizer, 10, [[1, 2, 3, 4, 5, 6]])
    assert len(fits) == 1 and len(fits[0]["input_ids"]) == 10 and not caplog.text
    assert len(tag_features(text("a bc a bc a bc"), tokenizer, 10, [[1, 2, 3, 4, 5, 6]])) == 2


def test_long_words_are_cut_and_counted(tokenizer, caplog):
    found = tag_features(text("a b" + "c" * 12 + " x"), tokenizer, 8, [[1, 2, 3]])
    assert "1 words of more than 6 tokens are cut" in caplog.text
    assert [label for row in found["labels"] for label in row if label != -100] == [1, 2, 3]


def test_windows_cover_all_words_once_and_share_context():
    generator = random.Random(3)
    for _ in range(500):
        room = generator.randint(2, 12)
        sizes = [generator.randint(1, room if generator.random() < 0.2 else min(3, room)) for _ in range(40)]
        found = list(windows(sizes, room))
        assert found[0][0] == found[0].first == 0 and found[-1].end == found[-1].last == 40
        for window, following in zip(found, found[1:], strict=False):
            assert window.last == following.first and window.begin < following.begin <= window.end < following.end
        for window in found:
            assert window.begin <= window.first <= window.last <= window.end
            assert sum(sizes[window.begin : window.end]) <= room
    wide = list(windows([1] * 40, 20))
    assert wide == [(0, 20, 0, 17), (15, 35, 17, 32), (30, 40, 32, 40)]
