import re
import sys
from pathlib import Path

import pytest

from bertkernels.data.tokenizer import SPECIAL_TOKENS

WORDS = [f"{first}{second}{third}" for first in "abcdefgh" for second in "aeiou" for third in "klmnrst"]


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory of other processes is read from /proc")
def test_it_says_time_and_memory_of_each_number_of_workers(import_benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(Path(sys.modules["bertkernels"].__file__).parents[1]))
    vocabulary = tmp_path / "vocab.txt"
    letters = [f"{prefix}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" for prefix in ("", "##")]
    vocabulary.write_text("\n".join([*SPECIAL_TOKENS, *letters, *WORDS]))
    import_benchmark("prepare_corpus").main(
        ["--vocab_file", str(vocabulary), "--megabytes", "0.3", "--workers", "1", "2", "--folder", str(tmp_path)]
    )
    *lines, last = capsys.readouterr().out.splitlines()
    found = [
        re.match(r"(\d) workers: 1 MB of text in [\d.]+ s, [\d.]+ MB/s, at most ([\d,]+) MB of memory", line)
        for line in lines
    ]
    assert [match[1] for match in found] == ["1", "2"]
    assert all(20 < int(match[2].replace(",", "")) < 2000 for match in found)
    assert last == "the same examples whoever made them"
    assert list(tmp_path.iterdir()) == [vocabulary], "the text and the examples go"
