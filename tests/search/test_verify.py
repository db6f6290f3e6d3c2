"""Plans trained alone: runs once, and what is said of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import TrainerCallback

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.search import alone as alone_module
from bertkernels.search.alone import Job, finished_run, train_alone
from bertkernels.search.chosen_plans import chosen_plans
from bertkernels.search.verify_arguments import VerifyArguments, check_verify_arguments
from bertkernels.search.verify_report import write_verification
from bertkernels.training.pretrain import pretrain
from bertkernels.training.training_arguments import PretrainRunArguments

PLANS = "one\t3*(attention ffn)\n\n(ffn attention) (dynamic_conv ffn) 2*ffn\n"


@pytest.fixture
def plans(tmp_path):
    (tmp_path / "plans.txt").write_text(PLANS)
    return str(tmp_path / "plans.txt")


@pytest.fixture
def job(tmp_path, supernet_config, prepared_dir):
    from bertkernels.models.supernet import path_of, plain_config

    config = plain_config(supernet_config, path_of(supernet_config, "3*(attention ffn)"))
    (tmp_path / "config.json").write_text(config.to_json_string(use_diff=False))
    return Job("one", 5, str(tmp_path / "run"), "masked_lm", str(tmp_path / "config.json"), prepared_dir)


def _make_run(folder, seed, steps=4):
    return PretrainRunArguments(
        output_dir=folder,
        seed=seed,
        max_steps=steps,
        save_steps=2,
        per_device_train_batch_size=4,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )


class _Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_a_run_is_done_once_goes_on_and_refuses_other_settings(job, monkeypatch):
    calls = []

    def interrupted(arguments, run):
        calls.append(run.resume_from_checkpoint)
        return pretrain(arguments, run, [_Stop()] if len(calls) == 1 else [])

    monkeypatch.setattr(alone_module, "pretrain", interrupted)
    assert finished_run(job, _make_run) is None
    with pytest.raises(KeyboardInterrupt):
        train_alone(job, _make_run)
    metrics = train_alone(job, _make_run)
    assert calls == [None, "last"] and metrics["masked_lm_accuracy"] >= 0
    assert finished_run(job, _make_run) == metrics
    assert not list(Path(job.folder).glob("checkpoint-*"))
    assert EncoderForMaskedLM.from_pretrained(job.folder).config.plan == "3*(attention ffn)"
    with pytest.raises(InputError) as caught:
        finished_run(job, lambda folder, seed: _make_run(folder, seed, steps=6))
    assert "run.max_steps: 4 before, 6 now" in str(caught.value)


def test_the_command(supernet, prepared_dir, plans, tmp_path, capsys):
    text = {"--plans": plans, "--supernet": supernet, "--prepared_dir": prepared_dir}
    out = tmp_path / "out"
    flags = [part for pair in text.items() for part in pair] + [
        *("--fitness", "loss"),
        *("--output_dir", str(out), "--num_seeds", "2", "--seed", "7", "--max_steps", "3", "--use_cpu", "true"),
        *("--per_device_train_batch_size", "4", "--report_to", "none", "--disable_tqdm", "true"),
    ]
    Path(plans).write_text(PLANS.replace("2*ffn", "(ffn ffn)"))
    assert main(["search", "verify", *flags]) == 0
    assert "Spearman's ρ: not defined (fewer than three plans" in capsys.readouterr().out
    content = json.loads((out / "verification.json").read_text())
    rows = {row["name"]: row for row in content["plans"]}
    assert set(rows) == {"one", "plan 3"} and set(rows["one"]["alone"]) == {"7", "8"}
    assert rows["plan 3"]["plan"] == "(ffn attention) (dynamic_conv ffn) (ffn ffn)"
    for row in rows.values():
        values = list(row["alone"].values())
        assert row["alone_mean"] == pytest.approx(np.mean(values)) and values[0] != values[1]
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("finished.json")}
    assert len(finished) == 4
    assert main(["search", "verify", *flags]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("finished.json")} == finished
    assert main(["search", "verify", *flags, "--max_steps", "5"]) == 2
    assert "run.max_steps: 3 before, 5 now" in capsys.readouterr().err


def test_the_table(tmp_path):
    inherited = {"a": 0.3, "b": 0.2, "c": 0.1}
    alone = {"a": {1: 0.5, 2: 0.7}, "b": {1: 0.4, 2: 0.4}, "c": {1: 0.1, 2: 0.3}}
    texts = dict.fromkeys(inherited, "attention ffn")
    content = write_verification(tmp_path, "accuracy", texts, inherited, alone, {})
    assert content["correlation"]["spearman"] == pytest.approx(1)
    lines = (tmp_path / "verification.md").read_text().splitlines()
    assert "| a | 0.3000 | 0.5000 | 0.7000 | 0.6000 | 0.1414 | 1 | 1 |" in lines
    assert any(line.startswith("- Spread over seeds 0.1155") and "0.2000" in line for line in lines)
    assert (tmp_path / "verification.png").read_bytes().startswith(b"\x89PNG")


def test_a_searchs_plans(supernet_config):
    def entry(plan, origin, name=None):
        return {"plan": plan, "origin": origin, "name": name}

    report = {
        "best": [entry("(ffn ffn) 2*(attention ffn)", "mutation"), entry("3*(ffn ffn)", "random")],
        "compared": [
            entry("3*(attention ffn)", "baseline", "interleaved attention"),
            entry("3*(ffn ffn)", "random order", "random order 1"),
            entry("3*(ffn attention)", "random order", "random order 2"),
        ],
    }
    chosen = chosen_plans(VerifyArguments(search_dir="x", best=2, random_orders=1), report, supernet_config)
    assert list(chosen) == ["found", "found 2", "interleaved attention"], "the same plan is not trained twice"
    chosen = chosen_plans(VerifyArguments(search_dir="x", named_orders=False), report, supernet_config)
    assert list(chosen) == ["found", "random order 1", "random order 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3*(attention fnn)", "line 1: plan: unknown sub-layer 'fnn'"),
        ("\none\t2*(attention ffn)", 'line 2: plan "2*(attention ffn)" has 4 sub-layers, the supernet 6 slots'),
        ("one\t3*(attention ffn)\none\t3*(ffn ffn)", "line 2: there is another plan called 'one'"),
        ("3*(attention mixed)", 'line 1: plan "3*(attention mixed)": sub-layer 2 is mixed'),
        ("\n", "there are no plans to verify"),
    ],
)
def test_plans_that_do_not_fit(plans, supernet_config, text, message):
    Path(plans).write_text(text)
    with pytest.raises(InputError) as caught:
        chosen_plans(VerifyArguments(plans=plans), None, supernet_config)
    assert message in str(caught.value)


def test_bad_flags(tmp_path, capsys):
    with pytest.raises(InputError, match="--supernet is missing"):
        check_verify_arguments(VerifyArguments(plans="x"))
    with pytest.raises(InputError, match="--num_seeds must be at least 1"):
        check_verify_arguments(VerifyArguments(search_dir="x", num_seeds=0))
    assert main(["search", "verify", "--search_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]) == 2
    assert "has no report.json: finish the search first" in capsys.readouterr().err
