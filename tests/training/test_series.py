"""Several runs in one folder: seeds, what is finished, and the best model on dev."""

import json
import shutil

import pytest
from transformers import AutoModelForSequenceClassification

from bertkernels.errors import InputError
from bertkernels.training.checkpoints import checkpoints
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.finetuned_folder import finetuned_folder
from bertkernels.training.output_folder import LAST
from bertkernels.training.series import check_series, finetune_seeds, finetune_tasks
from bertkernels.training.training_arguments import FinetuneRunArguments


@pytest.fixture
def flags(tiny_classifier, tmp_path):
    """Makes the arguments of a run by seed and folder."""
    model = tiny_classifier("start")
    rows = tmp_path / "rows.tsv"
    rows.write_text("text\tlabel\n" + "a good row\tup\na bad row\tdown\nrow\tup\n" * 8)

    def make(seed, folder, **changes):
        settings = {
            "max_steps": 4,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
        }
        named = {"best_on_dev", "early_stopping_patience", "max_eval_samples"}
        arguments = FinetuneArguments(
            model_name_or_path=model,
            train_file=str(rows),
            validation_file=str(rows),
            **{name: value for name, value in changes.items() if name in named},
        )
        run = {name: value for name, value in changes.items() if name not in named}
        return arguments, FinetuneRunArguments(output_dir=str(folder), seed=seed, **settings | run)

    return make


def _times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}


def test_seeds_are_runs_of_their_own_and_finished_ones_stay(flags, tmp_path):
    folder = tmp_path / "runs"
    found = finetune_seeds([1, 2], folder, flags)
    written = json.loads((folder / "all_results.json").read_text())
    assert written == found and found["seeds"] == [1, 2]
    alone = finetune(*flags(2, tmp_path / "alone"))
    assert json.loads((folder / "seed-2" / "all_results.json").read_text())["eval_loss"] == alone.metrics["eval_loss"]
    losses = [json.loads((folder / f"seed-{seed}" / "all_results.json").read_text())["eval_loss"] for seed in (1, 2)]
    assert losses[0] != losses[1] and found["eval_loss"] == pytest.approx(sum(losses) / 2)
    assert finetuned_folder(str(folder), None) == str(folder / found["best_model"])

    before = _times(folder)
    more = finetune_seeds([1, 2, 3], folder, lambda seed, place: flags(seed, place, resume_from_checkpoint=LAST))
    after = _times(folder)
    assert more["seeds"] == [1, 2, 3] and len(after) == 3
    assert all(after[path] == time for path, time in before.items())


def test_a_run_that_was_cut_short_goes_on_or_starts_anew(flags, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2}
    whole = finetune_seeds([1], tmp_path / "whole", lambda *place: flags(*place, **settings))
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    (cut / "seed-1" / "finished.json").unlink()
    shutil.rmtree(cut / "seed-1" / "checkpoint-4")
    resumed = {**settings, "resume_from_checkpoint": LAST}
    gone_on = finetune_seeds([1], cut, lambda *place: flags(*place, **resumed))
    assert gone_on["eval_loss"] == whole["eval_loss"]
    (cut / "seed-1" / "finished.json").unlink()
    for checkpoint in checkpoints(cut / "seed-1"):
        shutil.rmtree(checkpoint)
    anew = finetune_seeds([1], cut, lambda *place: flags(*place, **resumed))
    assert anew["eval_loss"] == whole["eval_loss"]


def test_finished_runs_of_a_version_with_fewer_flags_are_taken(flags, tmp_path):
    """What a flag's default did not change is as it was; what else it is set to is not."""
    folder = tmp_path / "runs"
    finetune_seeds([1], folder, flags)
    record = folder / "seed-1" / "finished.json"
    content = json.loads(record.read_text())
    assert content["settings"].pop("tokens_per_batch") is None
    record.write_text(json.dumps(content))
    finetune_seeds([1], folder, lambda *place: flags(*place, resume_from_checkpoint=LAST))
    changed = {"tokens_per_batch": 64, "resume_from_checkpoint": LAST}
    with pytest.raises(InputError, match="with --tokens_per_batch None and not 64"):
        finetune_seeds([1], folder, lambda *place: flags(*place, **changed))


def test_finished_runs_with_other_settings_are_not_taken_for_these(flags, tmp_path):
    finetune_seeds([1], tmp_path / "runs", flags)
    changed = {"learning_rate": 1e-3, "resume_from_checkpoint": LAST}
    with pytest.raises(InputError, match="seed-1 is finished, with --learning_rate 0.01 and not 0.001"):
        finetune_seeds([1], tmp_path / "runs", lambda *place: flags(*place, **changed))


def test_a_series_does_not_write_over_another_folder(flags, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    with pytest.raises(InputError, match="full is not empty"):
        check_series(flags(1, tmp_path / "full")[1])
    check_series(flags(1, tmp_path / "full", resume_from_checkpoint=LAST)[1])
    with pytest.raises(InputError, match="not from one checkpoint"):
        check_series(flags(1, tmp_path / "full", resume_from_checkpoint=str(tmp_path))[1])


def test_tasks_are_listed_with_their_average(tmp_path):
    (tmp_path / "runs").mkdir()
    scores = {"RTE": 0.5, "CoLA": 0.25}

    def run(task, place):
        assert place == tmp_path / "runs" / task
        return {"main_metric": "accuracy" if task == "RTE" else "mcc", "main_score": scores[task]}

    found = finetune_tasks(["RTE", "CoLA"], tmp_path / "runs", run, first=True)
    assert [score.task for score in found] == ["RTE", "CoLA"]
    written = json.loads((tmp_path / "runs" / "all_results.json").read_text())
    assert written == {"RTE_accuracy": 0.5, "CoLA_mcc": 0.25, "average": 0.375}
    assert (tmp_path / "runs" / "results.tsv").read_text().startswith("task\tmetric\tscore")


def test_the_best_model_on_dev_is_kept(flags, tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 6, "best_on_dev": True}
    result = finetune(*flags(1, tmp_path / "best", **settings))
    during = [entry["eval_accuracy"] for entry in result.log if "eval_accuracy" in entry]
    assert result.main_score == max(during)
    assert AutoModelForSequenceClassification.from_pretrained(result.output_dir).config.num_labels == 2


def test_training_stops_without_a_better_evaluation(flags, tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 30, "learning_rate": 0.0}
    settings |= {"early_stopping_patience": 3, "save_total_limit": 9}
    result = finetune(*flags(1, tmp_path / "early", **settings))
    assert result.log[-1]["step"] == 4  # the first is the best, and three more are not better
    checkpoint = str(tmp_path / "early" / "checkpoint-2")
    resumed = finetune(*flags(1, tmp_path / "resumed", resume_from_checkpoint=checkpoint, **settings))
    assert resumed.log[-1]["step"] == 4  # it counts on
    with pytest.raises(InputError, match="--early_stopping_patience must be at least 1"):
        finetune(*flags(1, tmp_path / "none", early_stopping_patience=0))


def test_the_best_of_no_evaluation_is_refused(flags, tmp_path):
    arguments, run = flags(1, tmp_path / "out", best_on_dev=True)
    arguments.validation_file = None
    with pytest.raises(InputError, match="--best_on_dev and --early_stopping_patience need evaluation rows"):
        finetune(arguments, run)


def test_evaluations_have_all_rows_where_training_leaves_out_the_last_batch(flags, tmp_path):
    found = [
        finetune(*flags(1, tmp_path / str(drop), dataloader_drop_last=drop, per_device_eval_batch_size=100)).metrics
        for drop in (False, True)
    ]
    for name in ("eval_accuracy", "eval_loss"):
        assert found[0][name] == found[1][name]
