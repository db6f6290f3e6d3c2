"""Every experiment on a tiny BERT, through the command: its jobs, its lines, and its report."""

import json

import pytest

from bertkernels.analysis.orders import all_swaps
from bertkernels.analysis.results import read_lines
from bertkernels.cli.main import main

TRAIN = ["--do_train", "true", "--seeds", "0", "1"]
RUNS = {
    "swap": ["--pairs", "all", "reversals", *TRAIN],
    "shuffle": ["--orders_each", "2", "--groups", "0-1", "--shared", "all", "0,1"],
    "remove": ["--modes", "keep-norm", "zero"],
    "replace": ["--blocks", "single", "backward", "--sites", "mlp", "--per_device_eval_batch_size", "8"],
    "approximate": ["--trained_probes", "linear", "relu", "--per_device_eval_batch_size", "8", "--blocks", "1-2"],
    "freeze": ["--selectors", "part:ffn", "blocks:0-1", *TRAIN],
    "track": ["--sites", "encoder", "mlp"],
    "heads": ["--head_step", "2"],
    "variants": ["--variants", "no_skip", "relu", "linear_attention", "no_ffn", "norm_before", "feed_same"],
}
JOBS = {
    "swap": 3 * (1 + 3),  # directly and with two seeds: unchanged, three pairs of which one is the reversal
    "shuffle": 1 + 2 + 2 + 1 + 3 + 1,  # two with none in place, two with one, the group's, shared ones
    "remove": 1 + 2 * 2 * (3 + 3 + 3),
    "replace": 1 + 3 + 3,
    "approximate": 2,
    "freeze": 1 + 2 * 3,
    "track": 1,
    "heads": 1 + 2 + 2 * 6 + 4 * 3 + 4 * 2 * 3,
    "variants": 1 + 5 * (3 + 1) + 1,
}


@pytest.mark.parametrize("experiment", RUNS)
def test_runs_and_reports(experiment, flags, tmp_path):
    assert main(["analyze", experiment, *flags(), *RUNS[experiment]]) == 0
    lines = read_lines(tmp_path / "out")
    assert len(lines) == len({line["job"] for line in lines}) == JOBS[experiment]
    assert len({line["settings"] for line in lines}) == 1
    for line in lines:
        if line["name"] != "unchanged" and line["phase"] == "direct":
            assert line["before"] is not None and 0 <= line["after"] <= 1
    report = (tmp_path / "out/report.md").read_text()
    for name in {part.split(")")[0] for part in report.split("![](")[1:]}:
        assert (tmp_path / "out" / name).stat().st_size > 1000
    if experiment not in ("freeze",):
        assert "![](" in report
    before = (tmp_path / "out/results.jsonl").read_text()
    assert main(["analyze", experiment, *flags(), *RUNS[experiment]]) == 0  # there is nothing left to do
    assert (tmp_path / "out/results.jsonl").read_text() == before


@pytest.mark.parametrize("kind, blocks", [("convbert", 3), ("lvbert", 4)])
def test_swaps_of_our_encoders(kind, blocks, flags, tmp_path):
    assert main(["analyze", "swap", *flags(kind)]) == 0
    lines = read_lines(tmp_path / "out")
    assert {tuple(line["order"]) for line in lines[1:]} == {*all_swaps(blocks)}


def test_settings_must_stay(flags, tmp_path, capsys):
    """Another model, other rows or another training are refused; more jobs of the same are not."""
    assert main(["analyze", "swap", *flags(), "--pairs", "0,1"]) == 0
    assert main(["analyze", "swap", *flags(), "--pairs", "0,1", "--max_eval_samples", "8"]) == 2
    assert "evaluation" in capsys.readouterr().err
    assert main(["analyze", "swap", *flags(), "--pairs", "0,1", "--do_train", "true"]) == 2
    assert "training" in capsys.readouterr().err
    assert main(["analyze", "shuffle", *flags()]) == 2
    assert "experiment: swap before, shuffle now" in capsys.readouterr().err
    assert main(["analyze", "swap", *flags()]) == 0
    assert len(read_lines(tmp_path / "out")) == 1 + 3


def test_many_experiments_from_one_file(flags, classifier, task_files, tmp_path, capsys):
    """With changes before the experiment, and a model that is adapted to them first."""
    cut = {"do": "residual", "block": 1, "part": "all", "scale": 0}
    names = flags()
    plan = {
        "output_dir": str(tmp_path / "all"),
        "common": {names[place][2:]: names[place + 1] for place in range(0, len(names), 2)},
        "experiments": {
            "swap": {"pairs": ["all"]},
            "shuffle": {"fixed": ["all"]},  # of the same flags, so of the same model in memory
            "swap-no-skip": {"experiment": "swap", "changes": [cut], "adapt": True, "do_train": True},
            "remove": {"sites": ["mlp"], "blocks": ["single"]},
        },
    }
    del plan["common"]["output_dir"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert main(["analyze", "run", str(tmp_path / "plan.json"), "--max_eval_samples", "16"]) == 0
    report = (tmp_path / "all/report.md").read_text()
    assert "Without skip connections blocks no longer commute." in report and "## swap-no-skip" in report
    assert (tmp_path / "all/swap-no-skip/adapted.safetensors").is_file()
    assert (tmp_path / "all/results.csv").read_text().count("swap-no-skip") == 2 * 4
    assert main(["analyze", "report", "--output_dir", str(tmp_path / "again"), "--folders", str(tmp_path / "all")]) == 0
    assert (tmp_path / "again/report.md").is_file()
    plan["experiments"] = {"nothing": {}}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert main(["analyze", "run", str(tmp_path / "plan.json")]) == 2
    assert "nothing is no experiment" in capsys.readouterr().err


def test_comparison(tmp_path):
    flags = ["--networks", "mlp-ln-skip", "--epochs", "1", "--orders_each", "2", "--disable_tqdm", "true"]
    assert main(["analyze", "comparison", "--output_dir", str(tmp_path / "out"), *flags]) == 0
    (line,) = read_lines(tmp_path / "out")
    assert len(line["swaps"]) == 10 and len(line["shuffles"]) == 2 * 4 and len(line["linearity"]) == 6
    assert "mlp-ln-skip" in (tmp_path / "out/report.md").read_text()


@pytest.mark.parametrize(
    "experiment, given, said",
    [
        ("swap", ["--pairs", "0,7"], "no block 7"),
        ("swap", ["--pairs", "some"], "--pairs"),
        ("shuffle", ["--fixed", "2"], "exactly 2"),
        ("shuffle", ["--orders", "0,0,1"], "each once"),
        ("remove", ["--sites", "convolution"], "self_attention_ff"),
        ("remove", ["--modes", "gone"], "mode"),
        ("freeze", [], "--do_train"),
        ("freeze", ["--do_train", "true", "--selectors", "blocks:9"], "blocks"),
        ("variants", ["--variants", "none"], "--variants"),
        ("heads", ["--importance", "norm"], "--cumulative"),
        ("approximate", ["--trained_probes", "cubic"], "--trained_probes"),
        ("swap", ["--direct", "false"], "nothing to do"),
        ("swap", ["--changes", "{do: nothing}"], "--changes"),
        ("swap", ["--changes", "{do: residual, block: 9, part: all, scale: 0}"], "block 9"),
        ("swap", ["--adapt", "true"], "--adapt"),
        ("nothing", [], "unknown experiment"),
    ],
)
def test_bad_flags(experiment, given, said, flags, tmp_path, capsys):
    """One sentence and exit code 2, and nothing is written."""
    assert main(["analyze", experiment, *flags(), *given]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out/results.jsonl").exists()
