"""ELECTRA's question-answering heads, in all their forms, against recorded outputs of the released ConvBERT."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from bertkernels.models.convert.tensorflow import convert_variables
from bertkernels.models.convert.tensorflow_config import read_known_sizes
from bertkernels.models.convert.tensorflow_plan import plan_variables
from bertkernels.models.question_answering import EncoderForQuestionAnswering

TOLERANCE = 1e-4
ENCODER = "a_plain"  # the heads were recorded on this encoder


def head_of(task, variables, joint):
    """Our weights by name, from the recorded variables; and whether there is a classifier, and of which kind."""
    found = {name.removeprefix(f"var/task_specific/{task}/"): array for name, array in variables.items()}
    weight = {name: torch.from_numpy(array.T if array.ndim == 2 else array) for name, array in found.items()}
    if joint:
        names = {"dense": "span.start_output", "qa_hidden": "span.end_dense", "dense_1": "span.end_output"}
    else:
        names = {}
        both = {kind: [weight[f"{name}/{kind}"] for name in ("dense", "dense_1")] for kind in ("kernel", "bias")}
        weight |= {f"plain/{kind}": torch.cat(pair) for kind, pair in both.items()}
        names["plain"] = "span.output"
    if "dense_3/kernel" in weight:
        names |= {"dense_2": "no_answer.dense", "dense_3": "no_answer.output"}
    elif "dense_2/kernel" in weight:
        names |= {"dense_2": "no_answer.output"}
    return names, {
        f"{ours}.{part}": weight[f"{theirs}/{kind}"]
        for theirs, ours in names.items()
        for part, kind in (("weight", "kernel"), ("bias", "bias"))
    }


def load(recording):
    folder = recording.parent.parent / ENCODER
    info = json.loads(recording.with_name("info.json").read_text())[recording.stem]
    with np.load(recording) as file, np.load(folder / "encoder.npz") as encoder:
        arrays = {name: file[name] for name in file.files}
        variables = {name.removeprefix("var/"): encoder[name] for name in encoder.files if name.startswith("var/")}
    plan = plan_variables({name: a.shape for name, a in variables.items()}, read_known_sizes(folder / "config.json"))
    converted = convert_variables(plan, variables)
    own = {name: array for name, array in arrays.items() if name.startswith("var/")}
    joint = any("/qa_hidden/" in name for name in own)
    names, head = head_of(info["task"], own, joint)
    config = converted.config
    config.qa_head = "joint" if joint else "plain"
    config.answerable_classifier = "no_answer.output.weight" in head
    config.answerable_uses_start_logits = "no_answer.dense.weight" in head
    config.beam_size = info["overrides"].get("beam_size", config.beam_size)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):  # off in all recordings
        setattr(config, name, 0.0)
    model = EncoderForQuestionAnswering(config)
    encoder = {f"model.{name}": weight for name, weight in converted.state_dict().items()}
    model.load_state_dict(encoder | head)
    model.train(info["is_training"])
    return info, {name: torch.from_numpy(array) for name, array in arrays.items()}, model, names


@pytest.mark.recordings("convbert/finetune_heads/squad*.npz")
def test_head(recording):
    info, recorded, model, names = load(recording)
    task, joint = info["task"], model.config.qa_head == "joint"
    inputs = [recorded[f"in/{name}"].long() for name in ("input_ids", "input_mask", "segment_ids")]
    labels = [recorded[f"in/{task}_{name}"].long() for name in ("start_positions", "end_positions", "is_impossible")]

    def close(ours, name):
        torch.testing.assert_close(ours, recorded[f"out/{name}"], atol=TOLERANCE, rtol=1e-6)

    output = model(*inputs, start_positions=labels[0], end_positions=labels[1], is_impossible=labels[2])
    close(output.start_logits, "start_logits")
    if model.config.answerable_classifier:
        close(output.no_answer_logits, "answerable_logit")
    starts = functional.cross_entropy(output.start_logits, labels[0], reduction="none")
    if joint and not info["is_training"]:
        for name in ("start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index"):
            close(getattr(output, name).to(recorded[f"out/{name}"].dtype), name)
        # the original's loss has no end here: all its logits are 0
        ends = torch.full_like(starts, math.log(output.start_logits.shape[1]))
    else:
        close(output.end_logits, "end_logits")
        ends = functional.cross_entropy(output.end_logits, labels[1], reduction="none")
    losses = (starts + ends) / 2
    if model.config.answerable_classifier:
        losses = losses + 0.5 * functional.binary_cross_entropy_with_logits(
            output.no_answer_logits, labels[2].float(), reduction="none"
        )
    close(losses, "loss")
    if not joint or info["is_training"]:
        torch.testing.assert_close(output.loss, losses.mean())
    losses.sum().backward()
    gradients = {name: array for name, array in recorded.items() if name.startswith("grad/")}
    checked = set()
    for theirs, ours in names.items():
        for part, kind in (("weight", "kernel"), ("bias", "bias")):
            gradient = model.get_parameter(f"{ours}.{part}").grad
            variables = ["dense", "dense_1"] if theirs == "plain" else [theirs]
            keys = [f"grad/task_specific/{task}/{variable}/{kind}" for variable in variables]
            if all(key in gradients for key in keys):  # the joint head's end has none in evaluation
                wanted = torch.cat([gradients[key].movedim(0, -1) for key in keys])
                torch.testing.assert_close(gradient, wanted, atol=TOLERANCE, rtol=1e-3)
                checked |= set(keys)
    assert checked and checked == set(gradients)
