import json

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


@pytest.fixture
def glue_flags(flags, tmp_path):
    """Flags for two small tasks of GLUE in place of files."""
    cola = "source\t1\t\ta good row\nsource\t0\t*\ta bad row\n" * 4
    rte = "index\tsentence1\tsentence2\tlabel\n" + "0\ta row\ta good row\tentailment\n1\trow\tbad\tnot_entailment\n" * 4
    for task, content in (("CoLA", cola), ("RTE", rte)):
        (tmp_path / "glue" / task).mkdir(parents=True)
        for split in ("train", "dev"):
            (tmp_path / "glue" / task / f"{split}.tsv").write_text(content)
    for name in ("--train_file", "--validation_file"):
        place = flags.index(name)
        del flags[place : place + 2]
    return [*flags, "--glue_dir", str(tmp_path / "glue")]


def test_several_tasks_and_seeds(glue_flags, tmp_path, capsys):
    command = ["finetune", *glue_flags, "--task_name", "cola,RTE", "--recipe", "electra-small", "--seeds", "3", "4"]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert output.count("Recipe electra-small") == 4  # before each run
    lines = output.splitlines()
    table = lines[next(number for number, line in enumerate(lines) if line.split()[:2] == ["task", "metric"]) :]
    assert [line.split()[0] for line in table[:4]] == ["task", "CoLA", "RTE", "average"]
    assert table[1].split()[-1] == "2"
    folder = tmp_path / "run"
    results = json.loads((folder / "all_results.json").read_text())
    assert results.keys() == {"CoLA_mcc", "RTE_accuracy", "average"}
    for task in ("CoLA", "RTE"):
        summary = json.loads((folder / task / "all_results.json").read_text())
        assert summary["seeds"] == [3, 4] and summary["best_seed"] in (3, 4)
    assert len((folder / "results.tsv").read_text().splitlines()) == 3
    # Nothing is left to do.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert main([*command, "--resume_from_checkpoint"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err


def test_tasks_without_a_folder_are_named_before_any_run(glue_flags, tmp_path, capsys):
    assert main(["finetune", *glue_flags, "--task_name", "all"]) == 2
    assert "has no folder SST-2, MRPC, QQP, STS-B, MNLI, QNLI, WNLI" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_recipes_are_listed(capsys):
    assert main(["finetune", "--list_recipes"]) == 0
    assert "theseus-predecessor" in capsys.readouterr().out


def test_a_recipe_is_printed_and_flags_override_it(flags, capsys):
    assert main(["finetune", *flags, "--recipe", "convbert-base", "--learning_rate", "0.002"]) == 0
    output = capsys.readouterr().out
    assert "source: Jiang et al. 2020" in output
    assert "learning_rate 0.0001 (replaced by --learning_rate)" in " ".join(output.split())


def test_predictions_of_the_fine_tuned_model(flags, tmp_path, capsys):
    assert main(["finetune", *flags]) == 0
    (tmp_path / "new.tsv").write_text("text\na good row\na bad row\n")
    options = ["--test_file", str(tmp_path / "new.tsv"), "--output_dir", str(tmp_path / "out"), "--use_cpu"]
    assert main(["predict", "--model_name_or_path", str(tmp_path / "run"), *options]) == 0
    lines = (tmp_path / "out" / "test_predictions.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction\tprobability" and len(lines) == 3
    assert all(line.split("\t")[1] in ("good", "bad") for line in lines[1:])
    assert f"Predictions: {tmp_path / 'out' / 'test_predictions.tsv'}" in capsys.readouterr().out
