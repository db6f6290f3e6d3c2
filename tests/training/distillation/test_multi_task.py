"""Several tasks at once: batches by task, one encoder with a head for each, folders that other commands take."""

import json

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.genotype import genotype_of
from bertkernels.training.distill import distill
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.multi_task.batches import TaskBatches
from bertkernels.training.predict import predict
from bertkernels.training.predict_arguments import PredictArguments

TASKS = ("SST-2", "RTE", "STS-B")
LABELS = {
    "SST-2": {"id2label": {0: "0", 1: "1"}},
    "RTE": {"id2label": {0: "not_entailment", 1: "entailment"}},
    "STS-B": {"id2label": {0: "LABEL_0"}, "problem_type": "regression"},
}


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 4


@pytest.fixture
def teachers(teacher, tmp_path):
    """A folder with a model for each task."""
    for task in TASKS:
        teacher(f"teachers/{task}", **LABELS[task])
    return str(tmp_path / "teachers")


@pytest.fixture
def flags(arguments, teachers, glue):
    def make(**changes):
        of_tasks = {"train_file": None, "validation_file": None, "glue_dir": glue, "task_name": ",".join(TASKS)}
        return arguments(**{"teacher_model_name_or_path": teachers, "multi_task": True} | of_tasks | changes)

    return make


def test_batches_have_one_task_and_an_epoch_every_row():
    sizes = [50, 7, 23]
    batches = TaskBatches(sizes, 8, seed=1)
    epochs = []
    for epoch in range(2):
        batches.epoch = epoch
        epochs.append(list(batches))
    assert all(len({task for task, _ in batch}) == 1 for batch in epochs[0])
    assert len(epochs[0]) == len(batches) == 7 + 1 + 3
    for found in epochs:
        assert sorted(pair for batch in found for pair in batch) == [
            (task, row) for task, size in enumerate(sizes) for row in range(size)
        ]
    assert list(batches) == epochs[1], "a function of seed and epoch"
    of_first = [{tuple(sorted(batch)) for batch in found if batch[0][0] == 0} for found in epochs]
    assert of_first[0] != of_first[1], "rows meet others in the next epoch"

    firsts = []
    for seed in range(2000):
        batches = TaskBatches(sizes, 8, seed=seed)
        firsts.append(next(iter(batches))[0][0])
    shares = np.bincount(firsts) / len(firsts)
    np.testing.assert_allclose(shares, np.array([7, 1, 3]) / 11, atol=0.04)


def test_processes_share_batches():
    whole = list(TaskBatches([10, 3], 4, seed=0))
    parts = [list(TaskBatches([10, 3], 4, seed=0, process=number, processes=2)) for number in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert len(shares[0]) >= len(shares[1]) >= 1 and sorted(sum(shares, [])) == sorted(batch)
    alone = [list(TaskBatches([1, 4], 4, seed=0, process=number, processes=2)) for number in range(2)]
    assert [len(batch) for batch in alone[1]] == [len(batch) for batch in alone[0]], "a lone row goes to both"
    assert len(list(TaskBatches([10, 3], 4, seed=0, drop_last=True))) == 2


def test_one_encoder_and_a_head_for_each_task(flags, run_arguments, losses, glue, tmp_path, capsys):
    result = distill(flags(), run_arguments(max_steps=60))
    assert "RTE: RTE (entailment, not_entailment); train 20, dev 12" in capsys.readouterr().out
    log = losses(result.output_dir)
    names = [f"{task}_loss" for task in TASKS]
    for name in (*names, "hidden_loss", "logits_loss"):
        found = [entry[name] for entry in log if name in entry]
        assert np.mean(found[-3:]) < np.mean(found[:3]), name
    metrics = result.metrics
    scores = [metrics["eval_SST-2_accuracy"], metrics["eval_RTE_accuracy"], metrics["eval_STS-B_combined_score"]]
    assert result.main_metric == "average" and result.main_score == pytest.approx(np.mean(scores))
    written = json.loads((result.output_dir / "all_results.json").read_text())
    assert written["main_score"] == result.main_score and "eval_RTE_majority_accuracy" in written

    models = {task: load_ours(result.output_dir / task) for task in TASKS}
    assert {type(model).__name__ for model in models.values()} == {"EncoderForSequenceClassification"}
    assert [model.config.num_labels for model in models.values()] == [2, 2, 1]
    encoders = [model.model.state_dict() for model in models.values()]
    assert all(torch.equal(encoders[0][name], other[name]) for other in encoders for name in encoders[0])
    weights = [models[task].classifier.output.weight for task in ("SST-2", "RTE")]
    assert not torch.equal(*weights)

    # evaluated alone, a task's model scores as it did in the run
    again = FinetuneArguments(model_name_or_path=str(result.output_dir / "RTE"), glue_dir=glue, task_name="RTE")
    alone = finetune(again, run_arguments("alone", max_steps=1, learning_rate=0.0))
    assert alone.metrics["eval_loss"] == pytest.approx(metrics["eval_RTE_loss"], rel=1e-5)

    (tmp_path / "glue/RTE/test.tsv").write_text("index\tsentence1\tsentence2\n0\tgood row\trow\n1\tbad\tslow row\n")
    predicted = PredictArguments(
        model_name_or_path=str(result.output_dir),
        glue_dir=glue,
        task_name="RTE",
        output_dir=str(tmp_path / "predicted"),
        use_cpu=True,
        disable_tqdm=True,
    )
    assert len(predict(predicted)[0].read_text().splitlines()) == 3


def test_a_resumed_run_ends_as_an_unbroken_one(flags, run_arguments, losses):
    """Through the end of an epoch, and with students of a supernet."""
    supernet = {"plan": "2*(attention expression_ffn[stack=4])", "intermediate_size": 16, "sample_shapes": True}
    budget = {"min_parameters": 4000, "max_parameters": 5500, "counted_projection": 0}
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 16, "logging_steps": 3}
    given = flags(**supernet, **budget)
    whole = distill(given, run_arguments("whole", **saving))
    distill(given, run_arguments("broken", **saving), [Stop()])
    found = distill(given, run_arguments("broken", **saving, resume_from_checkpoint="last"))
    assert losses(found.output_dir) == losses(whole.output_dir)
    for task in TASKS:
        ours, theirs = (load_ours(result.output_dir / task) for result in (whole, found))
        wanted = ours.state_dict()
        assert all(torch.equal(wanted[name], x) for name, x in theirs.state_dict().items())
        assert all(gene.stack == 4 for gene in genotype_of(theirs.config))


def test_going_on_with_all_heads_and_labels_alone(flags, run_arguments, teachers, tmp_path):
    fresh = dict.fromkeys(("plan", "hidden_size", "intermediate_size"))
    first = distill(flags(), run_arguments("first", max_steps=20))
    weights = {f"{name}_weight": 0.0 for name in ("embedding", "hidden", "attention", "logits")} | {"label_weight": 1.0}
    given = flags(**fresh, **weights, model_name_or_path=str(first.output_dir))
    given.teacher_model_name_or_path = None
    still = distill(given, run_arguments("still", max_steps=2, learning_rate=0.0))
    assert still.metrics["eval_STS-B_mse"] == pytest.approx(first.metrics["eval_STS-B_mse"], rel=1e-5)
    assert still.main_score == pytest.approx(first.main_score, abs=1e-6)

    given.model_name_or_path = teachers
    with pytest.raises(InputError, match="of SST-2 and STS-B in .*teachers differ in more than their heads"):
        other = load_ours(tmp_path / "teachers/STS-B")
        torch.nn.init.ones_(other.model.embeddings.word_embeddings.weight)
        other.save_pretrained(tmp_path / "teachers/STS-B")
        distill(given, run_arguments("other"))


def test_the_best_average_is_kept(flags, run_arguments):
    run = run_arguments(max_steps=30, eval_strategy="steps", eval_steps=5)
    result = distill(flags(best_on_dev=True, early_stopping_patience=20, held_out_samples=0.25), run)
    scores = [entry["eval_average"] for entry in result.log if "eval_average" in entry][:6]
    assert len(set(scores)) > 1 and result.main_score == max(scores)


def test_from_the_command_line(teachers, glue, tmp_path):
    given = {
        "teacher_model_name_or_path": teachers,
        "plan": "2*(attention ffn)",
        "hidden_size": 16,
        "intermediate_size": 32,
        "glue_dir": glue,
        "task_name": "SST-2,RTE",
        "output_dir": str(tmp_path / "out"),
        "max_steps": 2,
        "report_to": "none",
        "num_seeds": 2,
        "disable_tqdm": True,
    }
    argv = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    assert main(["distill", *argv, "--multi_task", "--use_cpu"]) == 0
    results = json.loads((tmp_path / "out/all_results.json").read_text())
    assert results["main_metric"] == "average" and results["seeds"] == [42, 43]
    assert (tmp_path / "out/seed-42/SST-2/config.json").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_name": "RTE"}, "--multi_task wants several tasks of GLUE: .*, not RTE"),
        ({"task_name": "RTE,MNLI"}, "has no folder MNLI"),
        ({"task_name": "RTE,nothing"}, "unknown GLUE task 'nothing'"),
        ({"task_name": "RTE,AX"}, "AX has no training rows"),
        ({"block_map": ["1"]}, "--block_map names 1 blocks"),
    ],
)
def test_bad_input(flags, run_arguments, changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        distill(flags(**changes), run_arguments())
    assert not (tmp_path / "out").exists()


def test_what_does_not_go_together(flags, run_arguments, teacher):
    with pytest.raises(InputError, match="--tokens_per_batch does not go with --multi_task"):
        distill(flags(), run_arguments(tokens_per_batch=64))
    given = flags()
    given.teacher_model_name_or_path = None
    with pytest.raises(InputError, match="--teacher_model_name_or_path is missing"):
        distill(given, run_arguments())
    teacher("teachers/RTE", **LABELS["RTE"], hidden_size=48)
    with pytest.raises(InputError, match="teachers of SST-2 and RTE differ in width: all tasks share the projection"):
        distill(flags(), run_arguments())
