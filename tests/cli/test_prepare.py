import json

import pytest

from bertkernels.cli.main import main


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(f"row {i} is read and then written to column {i * i}\n" for i in range(200)))
    return str(path)


def test_flags_and_a_second_run_that_has_nothing_to_do(text, tmp_path, capsys):
    flags = ["prepare", "--train_file", text, "--output_dir", str(tmp_path / "out"), "--vocab_size", "250"]
    assert main(flags) == 0
    first = capsys.readouterr().out
    assert "200 documents, 200 sentences" in first and f"Prepared examples: {tmp_path / 'out'}" in first
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["max_length"] == 128 and summary["splits"]["train"]["documents"] == 200
    assert main(flags) == 0
    assert capsys.readouterr().out == first
    assert main([*flags, "--max_seq_length", "64"]) == 2
    assert "holds examples of other text or options" in capsys.readouterr().err
    assert main([*flags, "--max_seq_length", "64", "--overwrite_output_dir"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file", "absent.txt", "--output_dir", "out"], "absent.txt: no such text file"),
        (["--train_file", "absent.txt"], "give --output_dir DIR"),
        (["--output_dir", "out"], "give either --text_source builtin or --train_file FILE ... or --dataset_name NAME"),
        (["--train_file", "a", "--dataset_name", "b", "--output_dir", "out"], "give either --text_source"),
        (["--train_file", "a", "--output_dir", "out", "--max_seq_length", "4"], "--max_seq_length 4 leaves no room"),
        (["--train_file", "a", "--output_dir", "out", "--packing", "other"], "--packing"),
        (["--train_file", "a", "--output_dir", "out", "--dupe_factor", "0"], "--dupe_factor must be at least 1"),
        (["--train_file", "a", "--output_dir", "out", "--validation_share", "1"], "--validation_share must be from 0"),
        (["--train_file", "a", "--output_dir", "out", "--num_workers", "0"], "--num_workers must be at least 1"),
        (["--train_file", "a", "--output_dir", "out", "--no_do_lower_case"], "are for --vocab_file"),
        (["--train_files", "a"], "unknown option '--train_files', did you mean --train_file?"),
    ],
)
def test_bad_flags_are_one_sentence_and_exit_code_2(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bertkernels prepare: ") and message in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == []


def test_accents_and_case_of_a_vocabulary(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "caf\u00e9", "Caf\u00e9"]
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(tokens), encoding="utf-8")
    text = tmp_path / "text.txt"
    text.write_text("Caf\u00e9", encoding="utf-8")
    for number, (flags, token) in enumerate(
        (([], "cafe"), (["--strip_accents", "False"], "caf\u00e9"), (["--no_do_lower_case"], "Caf\u00e9"))
    ):
        out = tmp_path / f"out{number}"
        command = ["prepare", "--train_file", str(text), "--vocab_file", str(vocabulary), "--output_dir", str(out)]
        assert main([*command, *flags]) == 0
        from bertkernels.data.prepared.folder import open_prepared

        assert open_prepared(out).train[0]["input_ids"] == [2, tokens.index(token), 3]
