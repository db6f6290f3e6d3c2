"""Converted checkpoints of the released ConvBERT against what the released program computed with them.

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

pytestmark = pytest.mark.recordings("convbert/**/encoder.npz")

TOLERANCE = 1e-4  # absolute, of outputs
GRADIENT_TOLERANCE = 1e-3  # of a gradient's norm


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
    assert case.model.encoder.blocks[0].sublayers[0].function.heads == described["effective_heads"]


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
    assert leaked == ("mixed" in case.model.config.plan)


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
