import pytest
import torch

from bertkernels.cli.main import main
from bertkernels.data.tokenizer import SPECIAL_TOKENS


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def flags(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "a good row,good\na bad row,bad\n" * 8)
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "a", "good", "bad", "row"]))
    options = {
        "preset": "electra-small",
        "vocab_file": tmp_path / "vocab.txt",
        "train_file": tmp_path / "rows.csv",
        "validation_file": tmp_path / "rows.csv",
        "output_dir": tmp_path / "run",
        "max_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": "true",
        "disable_tqdm": "true",
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def test_flags(flags, tmp_path, capsys):
    assert main(["finetune", *flags]) == 0
    output = capsys.readouterr().out
    assert "eval_majority_accuracy: 0.5000" in output
    assert f"Fine-tuned model: {tmp_path / 'run'}" in output
    assert (tmp_path / "run" / "all_results.json").is_file()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a new row\n", "rows.csv, line 18: 1 fields, expected 2 (text, label)"),
        ("a new row,\n", "rows.csv, line 18: 'label' must hold a label, found ''"),
    ],
)
def test_bad_rows_are_one_sentence_and_exit_code_2(flags, row, message, tmp_path, capsys):
    with open(tmp_path / "rows.csv", "a") as file:
        file.write(row)
    assert main(["finetune", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bertkernels finetune: ") and message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
