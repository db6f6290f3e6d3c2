"""Losses of distillation, and their gradients, equal the recordings of EfficientBERT's program."""

import json

import numpy as np
import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.training.distillation.block_map import block_map
from bertkernels.training.distillation.losses import attention_loss, hidden_loss, soft_cross_entropy
from bertkernels.training.distillation.prediction_loss import prediction_loss
from bertkernels.training.distillation.projection import Projection
from bertkernels.training.distillation.states import CountedTokens, capture_states
from tests.golden.expression_student import expression_student

# how the recordings' descriptions call them
_DESCRIBED = {
    "distill_mnli_temp2": "distill_mnli_t2",
    "distill_sts-b": "distill_stsb",
    "distill_squad1.1": "distill_squad",
}
_NAMES = {
    "embeddings.token_embeddings": "embeddings.word_embeddings",
    "embeddings.segment_embeddings": "embeddings.token_type_embeddings",
    "embeddings.layernorm": "embeddings.norm",
    "attention.dense": "sublayers.0.function.output",
    "attention.layernorm": "sublayers.0.norm",
    "attention.": "sublayers.0.function.",
    "ffn.dense1": "sublayers.1.function.up",
    "ffn.dense2": "sublayers.1.function.down",
    "ffn.layernorm": "sublayers.1.norm",
    "encoder.": "encoder.blocks.",
    "cls_pooler.dense": "pooler",
}


class _Recorded:
    def __init__(self, path):
        described = json.loads((path.parent / "meta.json").read_text())
        self.facts = described[_DESCRIBED.get(path.stem, path.stem)]
        self.expressions = described["released_ffn_expr"]
        found, names = np.load(path), ("in/", "student_sd/", "teacher_sd/", "out/teacher_")
        # one without weights was recorded with those of distill_mnli
        self.has_weights = "student_sd/fit_dense.weight" in found.files
        shared = {} if self.has_weights else np.load(path.parent / "distill_mnli.npz")
        values = {name: x for name, x in shared.items() if name.startswith(names)} | dict(found)
        self.values = {name: torch.from_numpy(x) for name, x in values.items()}
        self.real = self.values["in/attn_mask_1_is_pad"] == 0

    def of(self, prefix):
        return {name.removeprefix(prefix): x for name, x in self.values.items() if name.startswith(prefix)}

    def teacher(self, what, number):
        """Scores or states of its layers; before them in the file stand one or two outputs of its head."""
        place = {"scores": 1, "states": 2}[what] + str(self.facts["task"]).startswith("squad")
        return self.values[f"out/teacher_{place}_{number:02d}"]


@pytest.fixture(scope="module")
def recorded(recording):
    if recording is None:
        pytest.skip("no recording")
    return _Recorded(recording)


def _close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.recordings("efficientbert/distill_*.npz")
def test_losses_and_gradients(recorded):
    facts, student = (
        recorded.facts,
        {name: x.clone().requires_grad_() for name, x in recorded.of("student_sd/").items()},
    )
    layers, teachers = facts["student_config"]["num_layers"], facts["teacher_config"]["num_layers"]
    states, scores = expression_student(
        student, recorded.values, recorded.expressions, facts["student_config"]["num_attn_heads"]
    )
    projection = Projection(states[0].shape[-1], facts["student_config"]["fit_size"], [], shared=True)
    projection.layers["shared"].weight = torch.nn.Parameter(student["fit_dense.weight"].detach())
    projection.layers["shared"].bias = torch.nn.Parameter(student["fit_dense.bias"].detach())
    blocks = block_map(["uniform"], layers, teachers)
    pairs = [(0, 0), *((number + 1, block + 1) for number, block in enumerate(blocks))]
    hidden = sum(hidden_loss(projection(states[s], s), recorded.teacher("states", t)) for s, t in pairs)
    attention = sum(
        attention_loss(scores[number], recorded.teacher("scores", block), recorded.real, at_padding=True)
        for number, block in enumerate(blocks)
    )
    _close(hidden, recorded.values["out/ffn_loss"])
    _close(attention, recorded.values["out/attn_loss"])
    total = facts["hidden_ratio"] * (hidden + attention)
    if "out/pred_loss" in recorded.values:
        prediction = _prediction(recorded, student, states[-1])
        _close(prediction, recorded.values["out/pred_loss"])
        total = total + facts["pred_ratio"] * prediction
    _close(total, torch.tensor(facts["loss"]))
    _close(total, recorded.values["out/loss"])
    total.backward()
    found = {name: x.grad for name, x in student.items()}
    found |= {f"fit_dense.{name}": x.grad for name, x in projection.layers["shared"].named_parameters()}
    gradients = recorded.of("student_grad/")
    assert gradients or not recorded.has_weights
    for name, expected in gradients.items():
        if found[name] is None:
            assert not expected.any(), name
            continue
        scale = expected.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(found[name] / scale, expected / scale, rtol=1e-3, atol=1e-3, msg=name)


def _prediction(recorded, student, x):
    """The loss on what heads say, as recorded: a mean over classes or tokens too."""
    options = {"temperature": recorded.facts["temperature"], "reduction": "elements"}
    task = recorded.facts["task"]
    if task.startswith("squad"):
        # the recorded program takes the first token for padding
        masked = ~recorded.real
        masked[:, 0] = True
        logits = x @ student["classifier.weight"].T + student["classifier.bias"] + masked[..., None] * -10000.0
        found = dict(zip(("start_logits", "end_logits"), logits.unbind(-1), strict=True))
        said = dict(zip(found, (recorded.values["out/teacher_0"], recorded.values["out/teacher_1"]), strict=True))
        return prediction_loss(found, said, None, **options)
    pooled = torch.tanh(x[:, 0] @ student["cls_pooler.dense.weight"].T + student["cls_pooler.dense.bias"])
    logits = pooled @ student["classifier.weight"].T + student["classifier.bias"]
    if task == "sts-b":
        labels = next(x for name, x in recorded.values.items() if name.startswith("in/label")).view(-1, 1)
        return prediction_loss({"logits": logits}, {"logits": labels}, None, regression=True)
    return prediction_loss({"logits": logits}, {"logits": recorded.values["out/teacher_0"]}, None, **options)


@pytest.mark.recordings("efficientbert/distill_mnli.npz", "efficientbert/distill_pretrain.npz")
def test_states_of_the_teacher(recorded):
    facts, weights = recorded.facts["teacher_config"], recorded.of("teacher_sd/")
    layers = facts["num_layers"]
    headed = "classifier.weight" in weights
    config = EncoderConfig(
        plan=f"{layers}*(attention ffn)",
        vocab_size=facts["vocab_size"],
        hidden_size=facts["hidden_size"],
        num_attention_heads=facts["num_attn_heads"],
        intermediate_size=facts["ffn_hidden_size"],
        max_position_embeddings=facts["position_size"],
        hidden_act="gelu_tanh",
        layer_norm_eps=1e-5,
        padding="reference",
        pooler=headed,
        num_labels=3,
    )
    model = (EncoderForSequenceClassification if headed else EncoderModel)(config).eval()
    encoder = model.model if headed else model
    for name, x in weights.items():
        if name.startswith("classifier."):
            model.get_parameter(name.replace("classifier.", "classifier.output.")).data = x
            continue
        for theirs, ours in _NAMES.items():
            name = name.replace(theirs, ours)
        encoder.get_parameter(name).data = x
    batch = {
        "input_ids": recorded.values["in/token_ids"],
        "attention_mask": recorded.real.long(),
        "token_type_ids": recorded.values["in/segment_ids"],
        "position_ids": recorded.values["in/position_ids"],
    }
    with torch.no_grad(), capture_states(encoder, range(layers + 1), range(layers)) as states:
        output = model(**batch)
    if headed:
        _close(output.logits, recorded.values["out/teacher_0"])
    counted = CountedTokens.of(batch["attention_mask"], at_padding=True)
    for number in range(layers + 1):
        found = states.states(number, counted).view(*recorded.real.shape, -1)
        _close(found, recorded.teacher("states", number))
    masked = ~recorded.real[:, None, None, :]
    for number in range(layers):
        expected = recorded.teacher("scores", number)
        _close(states.scores(number, counted).masked_fill(masked, 0), expected.masked_fill(expected <= -100, 0))


def test_soft_cross_entropy(golden_dir):
    path = golden_dir / "efficientbert" / "soft_cross_entropy.npz"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    recorded = {name: torch.from_numpy(x) for name, x in np.load(path).items()}
    student, teacher = recorded["in/predicts"], recorded["in/targets"]
    for temperature in (1, 2):
        found = soft_cross_entropy(student, teacher, temperature, "elements")
        torch.testing.assert_close(found, recorded[f"out/t{temperature}_mean"])
    whole = recorded["out/t1_none"].sum(-1).mean()
    torch.testing.assert_close(soft_cross_entropy(student, teacher), whole)


def test_updates(golden_dir):
    path = golden_dir / "efficientbert" / "adamw_4steps.npz"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    recorded = {name: torch.from_numpy(x) for name, x in np.load(path).items()}
    names = [name.removeprefix("param0/") for name in recorded if name.startswith("param0/")]
    weights = {name: torch.nn.Parameter(recorded[f"param0/{name}"].clone()) for name in names}
    decayed = {True: [], False: []}
    for name, weight in weights.items():
        decayed["bias" not in name and name != "layernorm.weight"].append(weight)
    groups = [{"params": decayed[True], "weight_decay": 0.1}, {"params": decayed[False], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, eps=1e-8)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 10)
    for step in range(1, 5):
        assert schedule.get_last_lr()[0] == pytest.approx(float(recorded[f"lr_used{step}"]))
        for name, weight in weights.items():
            weight.grad = recorded[f"grad{step}/{name}"]
        optimizer.step()
        schedule.step()
        for name, weight in weights.items():
            torch.testing.assert_close(weight.detach(), recorded[f"param{step}/{name}"], rtol=1e-5, atol=1e-6)
