"""Pre-training on what `bertkernels prepare` wrote, and evaluation on the text it held out."""

import json
from dataclasses import replace

import pytest

from bertkernels.data.prepare_text import PrepareArguments, prepare_text
from bertkernels.errors import InputError
from bertkernels.training.pretrain import pretrain


@pytest.fixture
def prepared_dir(tiny_text, tmp_path):
    folder = tmp_path / "prepared"
    prepare_text(
        PrepareArguments(
            train_file=[str(tiny_text)],
            vocab_size=200,
            max_seq_length=32,
            validation_share=0.2,
            output_dir=str(folder),
            num_workers=1,
        )
    )
    return folder


@pytest.fixture
def on_prepared(tiny_pretraining, prepared_dir):
    def make(output_dir, prepared=prepared_dir, **changes):
        arguments, run = tiny_pretraining(output_dir, **changes)
        text = {"train_file": None, "vocab_size": 8192, "max_seq_length": None}
        return replace(arguments, prepared_dir=str(prepared), **text), run

    return make


def test_the_same_as_pretraining_on_the_text_itself(on_prepared, tiny_pretraining, tmp_path):
    arguments, run = on_prepared(tmp_path / "prepared_run", max_steps=4, logging_steps=1, save_strategy="no")
    log = pretrain(arguments, run).log
    arguments, run = tiny_pretraining(tmp_path / "text_run", max_steps=4, logging_steps=1, save_strategy="no")
    direct = pretrain(replace(arguments, validation_share=0.2), run).log
    losses = [[entry["loss"] for entry in entries if "loss" in entry] for entries in (log, direct)]
    assert losses[0] == losses[1] and len(losses[0]) == 4


@pytest.mark.parametrize("objective", ["electra", "masked_lm"])
def test_evaluation_does_not_change_training(on_prepared, tmp_path, objective):
    changes = {"objective": objective} | ({"generator_size": None} if objective == "masked_lm" else {})
    logs = []
    for name, settings in (("without", {}), ("with", {"eval_strategy": "steps", "eval_steps": 2})):
        arguments, run = on_prepared(tmp_path / name, max_steps=6, logging_steps=2, save_strategy="no", **settings)
        logs.append(pretrain(replace(arguments, **changes), run).log)
    for key in ("loss", "grad_norm", "masked_lm_accuracy"):
        without, evaluated = ([entry[key] for entry in log if key in entry] for log in logs)
        assert without == evaluated and len(without) == 3, key
    evaluations = [entry for entry in logs[1] if "eval_loss" in entry]
    assert [entry["step"] for entry in evaluations] == [2, 4, 6, 6]
    assert evaluations[2]["eval_loss"] == evaluations[3]["eval_loss"], "the same masks and samples every time"
    assert evaluations[0]["eval_loss"] != evaluations[1]["eval_loss"]
    assert 0 <= evaluations[0]["eval_masked_lm_accuracy"] <= 1
    assert ("eval_rtd_auc" in evaluations[0]) == (objective == "electra")
    results = json.loads((tmp_path / "with" / "eval_results.json").read_text())
    assert results["eval_loss"] == evaluations[-1]["eval_loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_length": 64}, "--max_seq_length 64: --prepared_dir .* was prepared with 32"),
        ({"train_file": ["a.txt"]}, "--train_file is for `bertkernels prepare`"),
        ({"packing": "convbert"}, "--packing convbert: --prepared_dir .* was prepared with electra"),
        ({"mask_probability": 0.01}, "leaves no room for a prediction"),
    ],
)
def test_what_does_not_fit_the_folder_is_refused(on_prepared, tmp_path, changes, message):
    arguments, run = on_prepared(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        pretrain(replace(arguments, **changes), run)
    assert not (tmp_path / "run").exists()


def test_folders_that_are_none(on_prepared, prepared_dir, tmp_path):
    with pytest.raises(InputError, match="holds no prepared examples"):
        pretrain(*on_prepared(tmp_path / "run", prepared=tmp_path))
    manifest = prepared_dir / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"complete": False}))
    with pytest.raises(InputError, match="is not finished"):
        pretrain(*on_prepared(tmp_path / "run"))


def test_evaluation_needs_held_out_text(tiny_pretraining, tmp_path):
    with pytest.raises(InputError, match="--eval_strategy steps needs text held out with --validation_share"):
        pretrain(*tiny_pretraining(tmp_path / "run", eval_strategy="steps", eval_steps=2))
