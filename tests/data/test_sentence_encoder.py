"""Ids word by word are the tokenizer's ids of the whole sentence."""

import random
import unicodedata

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bertkernels.data.formats.piece import ReadOptions
from bertkernels.data.formats.registry import read
from bertkernels.data.sentence_encoder import SentenceEncoder
from bertkernels.data.text_source import file_source
from bertkernels.data.tokenizer import SPECIAL_TOKENS, read_vocabulary, tokenizer_from_vocabulary

_LETTERS = [chr(code) for code in range(33, 0x250)] + list(
    "\u4e00\u65e5\u0301\u0308\u200b\u00a0\u3000\t\x1c\x85\ufffd\u0130\u03a3"
)


def _tokenizer(**options):
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,[]", "\u00e9", "E", "\u0301", "\u4e00"]
    vocabulary = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters), "mask", "the"]
    return tokenizer_from_vocabulary({token: number for number, token in enumerate(vocabulary)}, **options)


def _whole(tokenizer, sentence):
    return tokenizer(sentence, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("options", [{}, {"do_lower_case": False}, {"strip_accents": False}])
def test_words_one_by_one_equal_sentences(options):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    generator = random.Random(seed)
    tokenizer = _tokenizer(**options)
    encoder = SentenceEncoder(tokenizer.backend_tokenizer.to_str())
    sentences = ["[MASK] and [SEP]", "", "  a  b ", "e\u0301 \u0301e", "x" * 120]
    for _ in range(400):
        text = "".join(generator.choices(_LETTERS + [" "] * 80, k=generator.randrange(40)))
        sentences.append(generator.choice([text, unicodedata.normalize("NFD", text)]))
    found = encoder(sentences)
    assert found == [_whole(tokenizer, sentence) for sentence in sentences]
    assert encoder(sentences) == found, "from what was kept"
    assert tokenizer.mask_token_id not in found[0]


def test_kept_words_are_bounded(monkeypatch):
    monkeypatch.setattr("bertkernels.data.sentence_encoder._KEPT_WORDS", 10)
    tokenizer = _tokenizer()
    encoder = SentenceEncoder(tokenizer.backend_tokenizer.to_str())
    encoded = []
    monkeypatch.setattr(
        encoder, "_encode", lambda texts, encode=encoder._encode: encoded.extend(texts) or encode(texts)
    )
    for number in range(50):
        assert encoder([f"the {number}"]) == [_whole(tokenizer, f"the {number}")]
        assert len(encoder._words) + len(encoder._older) <= 24
    assert encoded.count("the") == 1, "what comes again is kept"


def test_other_tokenizers_take_whole_sentences():
    tokenizer = Tokenizer(
        models.BPE({"a": 0, "b": 1, "a\u2581b": 2, "\u2581": 3, "a\u2581": 4}, [("a", "\u2581"), ("a\u2581", "b")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    assert SentenceEncoder(tokenizer.to_str())(["a b"]) == [[2]]


def test_real_text(data_dir):
    tokenizer = tokenizer_from_vocabulary(read_vocabulary(data_dir / "vocab.txt"))
    encoder = SentenceEncoder(tokenizer.backend_tokenizer.to_str())
    source = file_source([str(data_dir / "corpus" / "wikitext2_valid.txt.xz")])
    lines = list(read(source.pieces[0], ReadOptions()))
    assert encoder(lines) == tokenizer(lines, add_special_tokens=False, split_special_tokens=True)["input_ids"]
