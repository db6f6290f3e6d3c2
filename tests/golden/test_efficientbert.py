"""Converted state dicts of the released EfficientBERT program against what it computed with them.

Every recorded model is a case, whatever its configuration; `meta.json` beside them says what each is.
"""

import copy
import json
import re

import numpy as np
import pytest
import torch
from torch.nn import functional

from bertkernels.cli.main import main
from bertkernels.models.convert.efficientbert_names import encoder_names, linear
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.genotype import genotype_of, genotype_texts, parse_genotype
from bertkernels.models.inheritance import choose_genotype, inherited_student
from bertkernels.nn.expression_ffn import FUNCTIONS, combine
from bertkernels.nn.expressions import follows_rules, parse_expression
from bertkernels.nn.linear import apply_linear

_MODELS = [f"efficientbert/{kind}*.npz" for kind in ("student", "supernet", "auto_tiny", "tiny_bert")]
_DISTILLED = "efficientbert/distill_mnli.npz"

TOLERANCE = 1e-4  # absolute, of outputs
GRADIENT_TOLERANCE = 1e-3  # of a gradient's norm


def described(recording):
    """What meta.json says of a recording, under its name or the beginning of that (student_squad1.1)."""
    everything = json.loads(recording.with_name("meta.json").read_text())
    names = [name for name in everything if recording.stem.startswith(name) and isinstance(everything[name], dict)]
    return everything[max(names, key=len)]


def convert(weights, folder, known, config):
    """The converted model, by the command."""
    file = folder / "recorded.bin"
    torch.save({"state_dict": {f"module.{name}": weight for name, weight in weights.items()}, "epoch": 3}, file)
    command = ["convert", str(file), str(folder / "model"), "--num_attention_heads", str(config["num_attn_heads"])]
    expressions = known.get("ffn_expr")
    if expressions is not None:
        (folder / "genotype.json").write_text(json.dumps(expressions))
        command += ["--genotype", str(folder / "genotype.json")]
        if not all(follows_rules(parse_expression(text)) for text in expressions):
            assert main(command) == 2, "expressions outside of the search space are taken only when that is said"
            command += ["--any_expression"]
    elif any(".all_ffn." in name for name in weights):
        command += ["--genotype", "supernet"]
    task = re.match(r"student_multitask_id(\d+)", known["stem"])
    if task:
        command += ["--classifier", task[1]]
    assert main(command) == 0
    return load_ours(folder / "model")


class Case:
    def __init__(self, recording, folder):
        with np.load(recording) as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        self.weights = {name[3:]: weight for name, weight in self.arrays.items() if name.startswith("sd/")}
        self.known = described(recording) | {"stem": recording.stem}
        self.model = convert(self.weights, folder, self.known, self.known["config"])
        with torch.no_grad():
            self.output = self.model(**inputs(self.arrays), output_hidden_states=True, output_attentions=True)


def inputs(arrays):
    return {
        "input_ids": arrays["in/token_ids"],
        "attention_mask": 1 - arrays["in/attn_mask_1_is_pad"],
        "token_type_ids": arrays["in/segment_ids"],
        "position_ids": arrays["in/position_ids"],
    }


@pytest.fixture(scope="module")
def case(recording, tmp_path_factory):
    return Case(recording, tmp_path_factory.mktemp("converted"))


def assert_close(found, wanted):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max().item() <= TOLERANCE


@pytest.mark.recordings(*_MODELS)
def test_outputs(case):
    if hasattr(case.model, "span"):
        # before ours takes logits where no answer can be away
        found = case.model.span.output(case.output.hidden_states[-1])
        logits = [array for name, array in case.arrays.items() if re.match("out/.*(start|end)", name)]
        assert_close(found, torch.stack(logits, -1) if logits else case.arrays["out/output"])
        return
    recorded = case.arrays["out/output"]
    found = case.output.logits if hasattr(case.output, "logits") else case.output.last_hidden_state
    assert_close(found.squeeze(-1) if recorded.dim() < found.dim() else found, recorded)


@pytest.mark.recordings(*_MODELS)
def test_states_of_every_block(case):
    for number, state in enumerate(case.output.hidden_states):
        if "fit_dense.weight" in case.weights:
            state = functional.linear(state, case.weights["fit_dense.weight"], case.weights["fit_dense.bias"])
        assert_close(state, case.arrays[f"out/ffn_output_{number:02d}"])
    assert f"out/ffn_output_{number + 1:02d}" not in case.arrays


@pytest.mark.recordings(*_MODELS)
def test_attention_maps(case):
    assert case.output.attentions
    for number, probs in enumerate(case.output.attentions):
        assert_close(probs, case.arrays[f"out/attn_score_{number:02d}"].softmax(-1))


@pytest.mark.recordings(*_MODELS)
def test_the_plan_is_the_recorded_genotype(case):
    config, expressions = case.model.config, case.known.get("ffn_expr")
    assert (config.layer_norm_eps, config.hidden_act, config.padding) == (1e-5, "gelu_tanh", "reference")
    if expressions is not None:
        assert genotype_of(config) == parse_genotype(expressions, rules=False)
        assert genotype_texts(genotype_of(config)) == expressions
        stacks = [sublayers[1] for sublayers in map(lambda b: b.sublayers, encoder(case.model).encoder.blocks)]
        assert [len(stack) for stack in stacks] == case.known["num_stacked"]
        assert [stack[0].function.up.out_features for stack in stacks] == case.known["expansion_hidden"]


@pytest.mark.recordings("efficientbert/supernet_single.npz")
def test_a_supernet_runs_as_the_student_that_was_recorded_with_its_weights(case, recording):
    file = recording.with_name("student_single.npz")
    with np.load(file) as arrays:
        arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    genotype = parse_genotype(described(file)["ffn_expr"])
    chosen = copy.deepcopy(case.model)
    choose_genotype(chosen, genotype)
    with torch.no_grad():
        outputs = [model(**inputs(arrays)).last_hidden_state for model in (chosen, inherited_student(chosen, genotype))]
    assert torch.equal(*outputs)
    assert_close(outputs[0], arrays["out/output"])


def encoder(model):
    return getattr(model, "model", model)


# -- gradients, by the recorded loss of a distillation -----------------------------------------------------------------


@pytest.mark.recordings(_DISTILLED)
def test_gradients_of_every_weight(recording, tmp_path):
    with np.load(recording) as arrays:
        arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    known = described(recording) | {"stem": recording.stem}
    expressions = json.loads(recording.with_name("meta.json").read_text())["released_ffn_expr"]
    weights = {name.removeprefix("student_sd/"): w for name, w in arrays.items() if name.startswith("student_sd/")}
    model = convert(weights, tmp_path, known | {"ffn_expr": expressions}, known["student_config"])
    fit = [weights["fit_dense.weight"].requires_grad_(), weights["fit_dense.bias"].requires_grad_()]
    output = model(**inputs(arrays), output_hidden_states=True)

    padding = -10000.0 * arrays["in/attn_mask_1_is_pad"][:, None, None, :]
    interval = known["teacher_interval"]
    loss = functional.mse_loss(functional.linear(output.hidden_states[0], *fit), teacher(arrays, "ffn_output", 0))
    for number, block in enumerate(encoder(model).encoder.blocks):
        attention = block.sublayers[0].function
        x = output.hidden_states[number]
        heads = (attention.heads, attention.head_size)
        query, key = (layer(x).unflatten(-1, heads).transpose(1, 2) for layer in (attention.query, attention.key))
        scores = query @ key.mT * attention.head_size**-0.5 + padding  # [B, H, T, T]
        place = (number + 1) * interval - 1
        wanted = teacher(arrays, "attn_score", place)
        loss = loss + functional.mse_loss(seen(scores), seen(wanted))
        state = functional.linear(output.hidden_states[number + 1], *fit)
        loss = loss + functional.mse_loss(state, teacher(arrays, "ffn_output", place + 1))
    soft = teacher(arrays, "output").softmax(-1)
    loss = loss - (soft * output.logits.log_softmax(-1)).mean()
    assert abs(loss.item() - known["loss"]) <= TOLERANCE
    loss.backward()

    parameters = dict(model.named_parameters())
    names = {f"model.{ours}": source for ours, source in encoder_names(model.config).items()}
    names |= linear("classifier.output", "classifier")
    recorded = {name.removeprefix("student_grad/"): g for name, g in arrays.items() if name.startswith("student_grad/")}
    # a key's bias has no gradient but through the scores of padding; rounding errors need a floor
    floor = 1e-7 * sum(gradient.square().sum() for gradient in recorded.values()).sqrt().item()
    assert set(parameters) == set(names)
    for ours, source in names.items():
        wanted, found = source.of(recorded[source.name]), parameters[ours].grad
        if ours.endswith("word_embeddings.weight"):  # theirs leaves the padding token's row as it starts
            wanted, found = wanted[1:], found[1:]
        error = (found - wanted).norm().item()
        assert error <= GRADIENT_TOLERANCE * wanted.norm().item() + floor, ours
    for weight, name in zip(fit, ("fit_dense.weight", "fit_dense.bias"), strict=True):
        assert (weight.grad - recorded[name]).norm() <= GRADIENT_TOLERANCE * recorded[name].norm()


def seen(scores):
    return torch.where(scores <= -100, 0.0, scores)


def teacher(arrays, what, number=None):
    """A recorded output of the teacher: its logits, pre-softmax scores and hidden states, in this order."""
    name = f"out/teacher_{('output', 'attn_score', 'ffn_output').index(what)}"
    return arrays[name if number is None else f"{name}_{number:02d}"]


# -- operators ---------------------------------------------------------------------------------------------------------


@pytest.mark.recordings("efficientbert/operators.npz")
def test_operators(recording):
    with np.load(recording) as arrays:
        arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    given = {name.removeprefix("in/"): array for name, array in arrays.items() if name.startswith("in/")}
    outputs = {name: array for name, array in arrays.items() if name.startswith("out")}
    assert len(outputs) == 26
    for name, wanted in outputs.items():
        folder, function, arguments = re.fullmatch(r"(out\w*)/(\w+)\((.*)\)", name).groups()
        if folder == "out":
            if function == "linear":
                layer = torch.nn.Linear(*given["w5x8"].shape)
                layer.load_state_dict({"weight": given["w5x8"].T, "bias": given["b8"]})
                found = apply_linear(layer, given["x5"])
            else:
                found = FUNCTIONS[function](given[arguments])
        else:
            left, right = (given[argument] for argument in arguments.split(","))
            found = combine(function, left, right, {"out_selmin": "crop", "out_selmax": "pad_published"}[folder])
        assert_close(found, wanted)
