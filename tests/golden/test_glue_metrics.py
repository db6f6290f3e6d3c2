"""Metrics of GLUE's tasks equal the recordings of the original programs, over whole sets."""

import json

import numpy as np
import pytest
from transformers import EvalPrediction

from bertkernels.data.glue import glue_task
from bertkernels.data.tasks import Task
from bertkernels.training.tasks.task import Split
from bertkernels.training.tasks.text_classification import TextClassification

_NAMES = {
    "acc": "accuracy",
    "acc_and_f1": "combined_score",
    "corr": "combined_score",
    "pearsonr": "pearson",
    "spearmanr": "spearman",
}
# ELECTRA's scorers by a task that has them.
_SCORERS = {
    "AccuracyScorer_3": "MNLI",
    "AccuracyScorer_bin": "MRPC",
    "F1Scorer_bin": "MRPC",
    "MCCScorer_bin": "CoLA",
    "RegressionScorer": "STS-B",
}


def _metrics(task: str, inputs) -> dict[str, float]:
    """What fine-tuning reports for recorded predictions."""
    glue = glue_task(task.removesuffix("-mm"))
    labels = list(glue.labels) if glue.labels else None
    kind = TextClassification(Task(glue.folder, None, {}, labels, glue.metric, glue.combined))
    if labels is None:
        outputs = EvalPrediction(inputs["preds_reg"][:, None], inputs["targets_reg"])
    else:
        ending = "bin" if len(labels) == 2 else str(len(labels))
        outputs = EvalPrediction(np.eye(len(labels))[inputs[f"preds_{ending}"]], inputs[f"labels_{ending}"])
    return kind.metrics(Split(None, None), outputs)


def _agree(found: dict[str, float], recorded: dict[str, float]) -> None:
    for name, value in recorded.items():
        assert found[_NAMES.get(name, name)] == pytest.approx(value, rel=1e-12), name


@pytest.fixture(scope="module")
def inputs(recording):
    return np.load(recording.parent / "glue_inputs.npz")


@pytest.mark.recordings("**/glue_results_electra*.json")
def test_scorers_of_electra(recording, inputs):
    for key, recorded in json.loads(recording.read_text()).items():
        scorer = key.split(" ")[0].removeprefix("electra_")
        found = {name: 100 * value for name, value in _metrics(_SCORERS[scorer], inputs).items()}
        recorded.pop("loss")  # the mean of given numbers
        if "BUGGY" in key:  # its recall counts predictions in place of labels, so F1 comes out as the precision
            assert recorded["f1"] == recorded["precision"] != pytest.approx(found["f1"])
            continue
        if "mse" in recorded:
            found["mse"] /= 100
        _agree(found, recorded)


@pytest.mark.recordings("**/glue_results_efficientbert*.json")
def test_metrics_of_efficientbert_and_theseus(recording, inputs):
    content = json.loads(recording.read_text())
    averaged = content.pop("efficientbert_validate_batch_averaged_bs32")
    for key, recorded in content.items():
        _agree(_metrics(key.rsplit("/", 1)[1], inputs), recorded)
    # What its validation reports is the mean over batches of 32: not what such metrics are, and not what we report.
    for task, recorded in averaged.items():
        found = _metrics(task, inputs)
        for name in recorded.keys() - {"acc"}:
            assert found[_NAMES.get(name, name)] != pytest.approx(recorded[name])


@pytest.mark.recordings("**/glue_task_scorers*.json")
def test_labels_and_their_order(recording):
    for name, recorded in json.loads(recording.read_text()).items():
        labels = glue_task({"sst": "SST-2", "sts": "STS-B"}.get(name, name)).labels
        assert (labels and list(labels)) == recorded["labels"]
