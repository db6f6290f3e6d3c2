import json

import pytest
import torch

from bertkernels.cli.main import main

_TINY = {
    "preset": "convbert-small",
    "plan": "1*(mixed ffn)",
    "hidden_size": 32,
    "embedding_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 200,
    "max_seq_length": 32,
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "learning_rate": "1e-3",
}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(f"row {i} is read and then written to column {i * i}" for i in range(200)))
    return str(path)


def _flags(options):
    flags = []
    for name, value in options.items():
        flags += [f"--{name}", str(value)]
    return flags


def test_flags(text, tmp_path, capsys):
    options = _TINY | {"train_file": text, "output_dir": str(tmp_path / "run")}
    assert main(["pretrain", *_flags(options)]) == 0
    assert f"Pre-trained encoder: {tmp_path / 'run' / 'discriminator'}" in capsys.readouterr().out
    assert (tmp_path / "run" / "discriminator" / "model.safetensors").is_file()

    assert main(["pretrain", *_flags(options)]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_file_of_options_and_flags_over_it(text, tmp_path, form, capsys):
    options = _TINY | {"train_file": [text], "output_dir": str(tmp_path / "run"), "seed": 5}
    path = tmp_path / f"options.{form}"
    if form == "yaml":
        # An exponent without a point is text to YAML.
        path.write_text("\n".join(f"{name}: {json.dumps(value)}" for name, value in options.items()))
    else:
        path.write_text(json.dumps(options))
    assert main(["pretrain", str(path), "--max_steps", "2"]) == 0
    assert "2 of 4 examples" in capsys.readouterr().out


def test_resume_flag_without_a_value(text, tmp_path, capsys):
    options = _TINY | {"train_file": text, "output_dir": str(tmp_path / "run"), "logging_steps": 1}
    options |= {"save_strategy": "steps", "save_steps": 2}
    assert main(["pretrain", *_flags(options)]) == 0
    first = (tmp_path / "run" / "train_log.jsonl").read_text()
    assert main(["pretrain", *_flags(options | {"max_steps": 4}), "--resume_from_checkpoint"]) == 0
    entries = [json.loads(line) for line in (tmp_path / "run" / "train_log.jsonl").read_text().splitlines()]
    assert entries[-1]["step"] == 4
    assert [entry["step"] for entry in entries if "loss" in entry] == [1, 2, 3, 4]
    assert entries[0] == json.loads(first.splitlines()[0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--learning_rat", "1"], "unknown option '--learning_rat', did you mean --learning_rate?"),
        (["--learning_rate", "fast"], "argument --learning_rate/--learning-rate: invalid float value: 'fast'"),
        (["--masking", "other"], "--masking"),
        (["--lr_scheduler_type", "other"], "other"),
        (["absent.yaml"], "absent.yaml: No such file"),
        ([], "give either --preset or --config_file"),
    ],
)
def test_bad_flags_are_one_sentence_and_exit_code_2(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bertkernels pretrain: ") and message in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "not valid YAML or JSON"), ("- a", "expected one value for each option")]
)
def test_bad_option_files(content, message, tmp_path, capsys):
    path = tmp_path / "options.yaml"
    path.write_text(content)
    assert main(["pretrain", str(path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert "--output_dir" in capsys.readouterr().out
