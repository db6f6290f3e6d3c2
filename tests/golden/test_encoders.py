"""Converted checkpoints of the released ConvBERT and LV-BERT against what these programs computed with them.

Every folder with an `encoder.npz` is a case, whatever its configuration.
"""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel

from bertkernels.cli.main import main
from bertkernels.models.convert.tensorflow import convert_variables
from bertkernels.models.convert.tensorflow_config import read_known_sizes
from bertkernels.models.convert.tensorflow_plan import plan_variables
from bertkernels.models.plan import parse_plan
from bertkernels.nn import DynamicConv

_CONVBERT, _LVBERT = "convbert/**/encoder.npz", "lvbert/**/encoder.npz"
pytestmark = pytest.mark.recordings(_CONVBERT, _LVBERT)
of_convbert, of_lvbert = pytest.mark.recordings(_CONVBERT), pytest.mark.recordings(_LVBERT)

TOLERANCE = 1e-4  # absolute, of outputs
GRADIENT_TOLERANCE = 1e-3  # of a gradient's norm
KINDS = ("dynamic_conv", "attention", "ffn")  # by LV-BERT's numbers


class Case:
    def __init__(self, recording, folder):
        self.config_file = recording.with_name("config.json")
        assert self.config_file.is_file(), f"{recording} has no config.json beside it"
        with np.load(recording) as arrays:
            self.arrays = dict(arrays)
        self.variables = {name[4:]: array for name, array in self.arrays.items() if name.startswith("var/")}
        shapes = {name: array.shape for name, array in self.variables.items()}
        self.plan = plan_variables(shapes, read_known_sizes(self.config_file), part="encoder")
        checkpoint = recording.with_name("tf_ckpt")
        self.from_checkpoint = checkpoint.is_dir()
        if self.from_checkpoint:
            assert main(["convert", str(checkpoint), str(folder), "--config", str(self.config_file)]) == 0
        else:
            convert_variables(self.plan, self.variables).save_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder)
        self.output = self.model(
            **self.inputs(), output_hidden_states=True, output_attentions=True, output_sublayer_states=True
        )

    def inputs(self):
        names = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "token_type_ids"}
        return {ours: self.recorded(f"in/{theirs}").long() for ours, theirs in names.items()}

    def recorded(self, name):
        return torch.from_numpy(self.arrays[name])


@pytest.fixture(scope="module")
def case(recording, tmp_path_factory):
    return Case(recording, tmp_path_factory.mktemp("converted") / "model")


def assert_close(found, wanted):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max().item() <= TOLERANCE


def test_weights_are_the_recorded_variables(case):
    state = case.model.state_dict()
    for ours, variable in case.plan.variables.items():
        wanted = torch.from_numpy(np.array(variable.layout(case.variables[variable.name])))
        assert torch.equal(state[ours], wanted), variable.name
    assert {variable.name for variable in case.plan.variables.values()} == set(case.variables)


def test_configuration_is_the_recorded_one(case):
    described = json.loads(case.config_file.read_text())
    for name in ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "hidden_act"):
        assert getattr(case.model.config, name) == described["bert_config"][name]
    assert case.model.config.padding == "reference"


@of_convbert
def test_effective_heads_are_the_recorded_ones(case):
    described = json.loads(case.config_file.read_text())
    assert case.model.encoder.blocks[0].sublayers[0].function.heads == described["effective_heads"]


@of_lvbert
def test_order_is_the_recorded_one(case):
    """Which the checkpoint does not hold; conversion works it out without the file that says it."""
    described = json.loads(case.config_file.read_text())
    kinds = [KINDS[number] for number in described["custom_layer_list"]]
    pairs = [f"({first} {second})" for first, second in zip(kinds[::2], kinds[1::2], strict=True)]
    shapes = {name: array.shape for name, array in case.variables.items()}
    heads = described["bert_config"]["num_attention_heads"]
    alone = plan_variables(shapes, part="encoder", num_attention_heads=heads)
    wanted = str(parse_plan(" ".join(pairs)))
    assert case.model.config.plan == alone.config.plan == wanted


@of_lvbert
def test_states_of_every_sub_layer(case):
    found = case.output.sublayer_states
    assert_close(found[0], case.recorded("out/embedding_output"))
    assert_close(torch.stack(found[1:]), case.recorded("out/all_layer_outputs"))


@of_lvbert
def test_inside_of_every_convolution(case):
    """The gated values, the keys, the kernels and what the convolution makes of them, before the output layer."""
    functions = [sublayer.function for block in case.model.encoder.blocks for sublayer in block.sublayers]
    convolutions = [index for index, function in enumerate(functions) if isinstance(function, DynamicConv)]
    assert convolutions == sorted(int(name[8:10]) for name in case.arrays if name.endswith("/glu_out"))
    for index in convolutions:
        seen = inside(functions[index], case.output.sublayer_states[index])
        kernels = seen["conv_kernel"].unflatten(-1, (functions[index].heads, -1)).softmax(-1)
        prefix = f"out/sub_{index:02d}"
        assert_close(seen["value"] * seen["gate"].sigmoid(), case.recorded(f"{prefix}/glu_out"))
        assert_close(seen["pointwise"], case.recorded(f"{prefix}/conv_attn_key_out"))
        assert_close(kernels, case.recorded(f"{prefix}/conv_kernel_softmax"))
        assert_close(seen["context"], case.recorded(f"{prefix}/conv_out"))


def inside(function, x):
    """What a convolution's linear layers return for x, and as "context" what its output layer is given."""
    seen = {}
    hooks = [function.output.register_forward_pre_hook(lambda _, inputs: seen.update(context=inputs[0]))]
    for name in ("value", "gate", "pointwise", "conv_kernel"):
        layer = getattr(function, name)
        hooks.append(layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out})))
    function(x)
    for hook in hooks:
        hook.remove()
    return seen


@of_convbert
def test_states_of_every_layer(case):
    assert_close(case.output.hidden_states[0], case.recorded("out/embedding_output"))
    layers = case.recorded("out/all_layer_outputs")
    assert len(case.output.hidden_states) == len(layers) + 1
    for found, wanted in zip(case.output.hidden_states[1:], layers, strict=True):
        assert_close(found, wanted)
    for index in range(len(layers)):
        # of a block's two sub-layers the first
        assert_close(case.output.sublayer_states[1 + 2 * index], case.recorded(f"out/layer_{index}/attention_output"))


def test_outputs(case):
    assert_close(case.output.last_hidden_state, case.recorded("out/sequence_output"))
    assert_close(case.output.pooler_output, case.recorded("out/pooled_output"))


def test_attention_maps(case):
    if not case.output.attentions:
        assert "out/attn_probs" not in case.arrays or not len(case.arrays["out/attn_probs"])
        return
    for found, wanted in zip(case.output.attentions, case.recorded("out/attn_probs"), strict=True):
        assert_close(found, wanted)


def test_gradients_of_every_variable(case):
    case.model.zero_grad()
    output = case.model(**case.inputs()).last_hidden_state
    (output * case.recorded("in/grad_weight")).sum().backward()
    parameters = dict(case.model.named_parameters())
    wanted = {name: case.arrays[f"grad/{name}"] for name in case.variables}
    # a key's bias has no gradient (softmax does not see it), so its recorded rounding errors need a floor
    floor = 1e-7 * np.sqrt(sum(np.square(gradient).sum() for gradient in wanted.values()))
    for ours, variable in case.plan.variables.items():
        gradient = torch.from_numpy(np.array(variable.layout(wanted[variable.name])))
        error = (parameters[ours].grad - gradient).norm().item()
        assert error <= GRADIENT_TOLERANCE * gradient.norm().item() + floor, variable.name


def test_padding_leaks_as_in_the_released_program(case, recording):
    """Convolutions see padding there; plain attention does not."""
    file = recording.with_name("pad_leak.npz")
    if not file.is_file():
        pytest.skip("recorded without changed padding")
    with np.load(file) as arrays:
        changed = {name: torch.from_numpy(array) for name, array in arrays.items()}
    inputs = case.inputs() | {"input_ids": changed["in/input_ids_padchanged"].long()}
    output = case.model(**inputs).last_hidden_state
    assert_close(output, changed["out/sequence_output_padchanged"])
    real = inputs["attention_mask"].bool()
    leaked = (output - case.output.last_hidden_state)[real].abs().max() > TOLERANCE
    assert leaked == any(kind in case.model.config.plan for kind in ("mixed", "dynamic_conv"))


def test_exact_padding_does_not_leak(case, tmp_path):
    case.model.save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, padding="exact")
    inputs = case.inputs()
    real = inputs["attention_mask"].bool()
    for ids, mask, types, output in zip(
        inputs["input_ids"], real, inputs["token_type_ids"], model(**inputs).last_hidden_state, strict=True
    ):
        alone = case.model(ids[None, mask], token_type_ids=types[None, mask]).last_hidden_state[0]
        assert_close(output[mask], alone)
