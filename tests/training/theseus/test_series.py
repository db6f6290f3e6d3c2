"""Several seeds and a grid by the command line, cut short and gone on with."""

import json

import pytest

from bertkernels.cli.main import main
from bertkernels.training.finetuned_folder import finetuned_folder


@pytest.fixture
def flags(files, predecessor, tmp_path):
    settings = {
        **files,
        "model_name_or_path": predecessor(),
        "output_dir": tmp_path / "out",
        "successor_blocks": "2",
        "max_seq_length": 16,
        "max_steps": 3,
        "measure_seconds": 0,
        "module_table": False,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return ["theseus", *(part for name, value in settings.items() for part in (f"--{name}", str(value)))]


def test_seeds(flags, tmp_path, capsys):
    command = [*flags, "--replacing_rate", "0.5", "--num_seeds", "2"]
    assert main(command) == 0
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert results["seeds"] == [42, 43] and "eval_accuracy_std" in results
    assert finetuned_folder(str(tmp_path / "out"), None).endswith(results["best_model"])
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err
    capsys.readouterr()
    assert main([*command, "--resume_from_checkpoint"]) == 0
    assert "trained" not in capsys.readouterr().out, "finished runs are read"


def test_grid(flags, tmp_path, capsys):
    command = [*flags, "--grid", "--grid_learning_rates", "1e-3", "2e-3", "--grid_replacing_rates", "0.5"]
    command += ["--grid_steps", "2"]
    assert main(command) == 0
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert results["best_model"] in ("rate-0.001_b-0.5_steps-2", "rate-0.002_b-0.5_steps-2")
    record = json.loads((tmp_path / "out" / results["best_model"] / "theseus.json").read_text())
    assert record["schedule"] == "LinearRate" and record["rate"] == {"base": 0.5, "k": 0.25}
    capsys.readouterr()
    assert main([*command, "--resume_from_checkpoint"]) == 0
    assert "trained" not in capsys.readouterr().out
