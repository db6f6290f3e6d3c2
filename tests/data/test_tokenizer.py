import gzip
import os
import subprocess
import sys

import pytest

from bertkernels.data.tokenizer import (
    SPECIAL_TOKENS,
    load_tokenizer,
    model_vocab_size,
    read_vocabulary,
    tokenizer_from_vocabulary,
    train_tokenizer,
)
from bertkernels.errors import InputError

SENTENCES = [
    f"the {word}s of number {i} are read, then written: na\u00efve caf\u00e9 {i * i}"
    for i in range(200)
    for word in ("row", "column")
]


def _write(path, tokens, end="\n"):
    path.write_bytes("".join(token + end for token in tokens).encode())
    return path


def test_vocabulary_ids_are_line_numbers_and_carriage_returns_go(tmp_path):
    tokens = [*SPECIAL_TOKENS, "a", "##b", "\u2028x"]
    expected = {token.strip(): number for number, token in enumerate(tokens)}
    assert read_vocabulary(_write(tmp_path / "unix.txt", tokens)) == expected
    assert read_vocabulary(_write(tmp_path / "dos.txt", tokens, "\r\n")) == expected


def test_of_repeated_tokens_the_last_counts_and_it_is_said(tmp_path, caplog):
    vocabulary = read_vocabulary(_write(tmp_path / "v.txt", [*SPECIAL_TOKENS, "a", "b", "a"]))
    assert vocabulary["a"] == 7
    assert "1 of 8 lines repeat a token" in caplog.text
    assert model_vocab_size(tokenizer_from_vocabulary(vocabulary)) == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no BERT vocabulary"), (b"[PAD]\n[UNK]\na\n", r"no \[CLS\], \[SEP\], \[MASK\]"), (b"\xff\xfe", "not UTF-8")],
)
def test_what_is_no_vocabulary_is_refused(tmp_path, content, message):
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_vocabulary(path)
    with pytest.raises(InputError, match="No such file"):
        read_vocabulary(tmp_path / "absent.txt")


def test_released_convbert_vocabulary_loads_with_a_warning(data_dir, tmp_path, caplog):
    path = tmp_path / "vocab.txt"
    path.write_bytes(gzip.decompress((data_dir / "vocab_convbert_as_is.txt.gz").read_bytes()))
    vocabulary = read_vocabulary(path)
    assert "repeat a token" in caplog.text
    assert len(vocabulary) == 29514
    assert vocabulary["[CLS]"] == 101 and vocabulary["the"] == 1996
    assert model_vocab_size(tokenizer_from_vocabulary(vocabulary)) == 30522


_TRAIN = """
import sys
from bertkernels.data.tokenizer import train_tokenizer
tokenizer = train_tokenizer(open(sys.argv[1], encoding="utf-8").read().split("\\n"), 300, "some text")
print(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
"""


def test_training_is_the_same_on_every_run(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(SENTENCES), encoding="utf-8")
    outputs = set()
    for run in range(2):
        environment = os.environ | {
            "BERTKERNELS_CACHE": str(tmp_path / f"cache{run}"),
            "TOKENIZERS_PARALLELISM": "true",
        }
        command = [sys.executable, "-c", _TRAIN, str(text)]
        outputs.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(outputs) == 1


def test_trained_tokenizer_is_kept_saved_and_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path / "cache"))
    tokenizer = train_tokenizer(SENTENCES, 300, "text")
    assert train_tokenizer([], 300, "text").get_vocab() == tokenizer.get_vocab(), "must come from the cache"
    assert len(tokenizer) == model_vocab_size(tokenizer) <= 300
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL_TOKENS)
    assert tokenizer.tokenize("The Caf\u00c9") == tokenizer.tokenize("the cafe")
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = load_tokenizer(tmp_path / "saved")
    encoded = tokenizer("a row", "the columns")
    assert loaded("a row", "the columns") == encoded
    assert encoded["token_type_ids"][0] == 0 and encoded["token_type_ids"][-1] == 1


def test_no_tokenizer_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no tokenizer could be loaded"):
        load_tokenizer(tmp_path)
