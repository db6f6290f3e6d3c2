"""Converted classification and regression heads of the released ConvBERT against recorded outputs."""

import json

import numpy as np
import pytest
import torch

from bertkernels.errors import InputError
from bertkernels.models.convert.tensorflow import convert_variables
from bertkernels.models.convert.tensorflow_config import read_known_sizes
from bertkernels.models.convert.tensorflow_plan import plan_variables

TOLERANCE = 1e-4
ENCODER = "a_plain"  # the heads were recorded on this encoder


def load(recording):
    task = json.loads(recording.with_name("info.json").read_text())[recording.stem]["task"]
    folder = recording.parent.parent / ENCODER
    with np.load(recording) as head, np.load(folder / "encoder.npz") as encoder:
        arrays = {name: head[name] for name in head.files}
        variables = {name: encoder[name] for name in encoder.files if name.startswith("var/")}
    variables |= {name: array for name, array in arrays.items() if name.startswith("var/")}
    variables = {name.removeprefix("var/"): array for name, array in variables.items()}
    return task, arrays, variables, read_known_sizes(folder / "config.json")


@pytest.mark.recordings("convbert/finetune_heads/*_eval.npz")
def test_head(recording):
    task, arrays, variables, known = load(recording)
    shapes = {name: array.shape for name, array in variables.items()}
    if "out/start_logits" in arrays:
        # a question-answering head: not a classifier, which is said, and the encoder converts without it
        with pytest.raises(InputError, match=f"task '{task}' .* no classification head"):
            plan_variables(shapes, known, task=task)
        assert any(task in reason for reason in plan_variables(shapes, known).left_out)
        return
    plan = plan_variables(shapes, known, task=task)
    model = convert_variables(plan, variables)
    recorded = {name: torch.from_numpy(array) for name, array in arrays.items()}
    output = model(
        recorded["in/input_ids"].long(), recorded["in/input_mask"].long(), recorded["in/segment_ids"].long()
    ).logits
    if "out/logits" in recorded:
        torch.testing.assert_close(output, recorded["out/logits"], atol=TOLERANCE, rtol=0)
        labels = recorded[f"in/{task}_label_ids"].long()
        losses = torch.nn.functional.cross_entropy(output, labels, reduction="none")
    else:
        output = output.squeeze(-1)
        torch.testing.assert_close(output, recorded["out/predictions"], atol=TOLERANCE, rtol=0)
        losses = (output - recorded[f"in/{task}_targets"]) ** 2
    torch.testing.assert_close(losses, recorded["out/loss"], atol=TOLERANCE, rtol=TOLERANCE)
    losses.sum().backward()
    for ours in ("classifier.output.weight", "classifier.output.bias"):
        variable = plan.variables[ours]
        wanted = torch.from_numpy(np.array(variable.layout(arrays[f"grad/{variable.name}"])))
        torch.testing.assert_close(model.get_parameter(ours).grad, wanted, atol=TOLERANCE, rtol=1e-3)


@pytest.mark.recordings("convbert/finetune_heads/mnli_eval.npz")
def test_classes_have_their_names(recording):
    task, _, variables, known = load(recording)
    plan = plan_variables({name: array.shape for name, array in variables.items()}, known, task=task)
    assert plan.config.id2label == {0: "contradiction", 1: "entailment", 2: "neutral"}
