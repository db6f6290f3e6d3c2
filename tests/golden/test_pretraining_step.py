"""The converted generator and discriminator against a recorded pre-training step of the released program."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

from bertkernels.cli.main import main
from bertkernels.models.convert.tensorflow import convert_variables
from bertkernels.models.convert.tensorflow_config import read_known_sizes
from bertkernels.models.convert.tensorflow_plan import plan_variables
from bertkernels.models.electra import ElectraForPreTraining

pytestmark = pytest.mark.recordings("convbert/**/pretrain.npz", "lvbert/**/pretrain.npz")

TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3


class Case:
    def __init__(self, recording, folder):
        self.by_sublayer = "lvbert" in recording.parts
        self.config_file = recording.with_name("pretrain_config.json")
        with np.load(recording) as arrays:
            self.arrays = dict(arrays)
        self.variables = {name[4:]: array for name, array in self.arrays.items() if name.startswith("var/")}
        shapes = {name: array.shape for name, array in self.variables.items()}
        known = read_known_sizes(self.config_file) if self.config_file.is_file() else None
        self.plan = plan_variables(shapes, known, part="pretraining")
        self.checkpoint = recording.with_name("tf_pretrain_ckpt")
        self.folder = folder / "pair"
        if self.checkpoint.is_dir():
            assert main(self.arguments(self.folder, "pretraining")) == 0
        else:
            convert_variables(self.plan, self.variables).save_pretrained(self.folder)
        self.model = AutoModelForPreTraining.from_pretrained(self.folder)
        self.model.config.duplicate_draws = "average"  # as the released program
        self.output = self.step()

    def arguments(self, folder, part):
        config = ["--config", str(self.config_file)] if self.config_file.is_file() else []
        return ["convert", str(self.checkpoint), str(folder), "--part", part, *config]

    def recorded(self, name):
        return torch.from_numpy(self.arrays[name])

    def inputs(self):
        return {
            "attention_mask": self.recorded("in/input_mask").long(),
            "token_type_ids": self.recorded("in/segment_ids").long(),
        }

    def step(self):
        return self.model(
            input_ids=self.recorded("out/masked/input_ids").long(),
            masked_lm_positions=self.recorded("out/masked/masked_lm_positions").long(),
            masked_lm_ids=self.recorded("out/masked/masked_lm_ids").long(),
            masked_lm_weights=self.recorded("out/masked/masked_lm_weights"),
            original_input_ids=self.recorded("in/input_ids").long(),
            sampled_ids=self.recorded("out/fake/sampled_tokids").long(),
            **self.inputs(),
        )


@pytest.fixture(scope="module")
def case(recording, tmp_path_factory):
    return Case(recording, tmp_path_factory.mktemp("converted"))


def states(case, encoder, ids):
    """What the released program calls all layers' outputs, LV-BERT's that of every sub-layer; behind the embeddings."""
    output = encoder(ids, **case.inputs(), output_hidden_states=True, output_sublayer_states=True)
    return output.sublayer_states if case.by_sublayer else output.hidden_states


def assert_close(found, wanted):
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, atol=TOLERANCE, rtol=TOLERANCE)


def test_checkpoint_holds_the_recorded_weights(case):
    assert isinstance(case.model, ElectraForPreTraining)
    state = case.model.state_dict()
    for ours, variable in case.plan.variables.items():
        assert torch.equal(state[ours], torch.from_numpy(np.array(variable.layout(case.variables[variable.name]))))
    assert {variable.name for variable in case.plan.variables.values()} == set(case.variables)


def test_embeddings_are_shared(case):
    generator, discriminator = case.model.generator.model, case.model.discriminator.model
    assert generator.embeddings.word_embeddings.weight is discriminator.embeddings.word_embeddings.weight
    assert generator.embeddings.norm.weight is discriminator.embeddings.norm.weight
    assert case.model.generator.prediction.decoder.weight is generator.embeddings.word_embeddings.weight


def test_generator(case):
    masked = case.recorded("out/masked/input_ids").long()
    found = states(case, case.model.generator.model, masked)
    assert_close(found[0], case.recorded("out/gen/embedding_output"))
    assert_close(torch.stack(found[1:]), case.recorded("out/gen/all_layer_outputs"))
    assert_close(found[-1], case.recorded("out/gen/sequence_output"))
    logits = case.output.masked_lm_logits
    assert_close(logits, case.recorded("out/mlm/logits"))
    assert_close(logits.softmax(-1), case.recorded("out/mlm/probs"))
    assert torch.equal(logits.argmax(-1), case.recorded("out/mlm/preds").long())
    assert_close(case.output.masked_lm_loss, case.recorded("out/mlm/loss"))


def test_corruption(case):
    assert torch.equal(case.output.corrupted_input_ids, case.recorded("out/fake/input_ids").long())
    assert torch.equal(case.output.replaced_labels, case.recorded("out/fake/is_fake_tokens").long())


def test_discriminator(case):
    corrupted = case.recorded("out/fake/input_ids").long()
    found = states(case, case.model.discriminator.model, corrupted)
    assert_close(torch.stack(found[1:]), case.recorded("out/disc/all_layer_outputs"))
    assert_close(found[-1], case.recorded("out/disc/sequence_output"))
    logits = case.output.discriminator_logits
    assert_close(logits, case.recorded("out/disc/logits"))
    assert_close(logits.sigmoid(), case.recorded("out/disc/probs"))
    assert torch.equal((logits > 0).long(), case.recorded("out/disc/preds").long())
    assert_close(case.output.discriminator_loss, case.recorded("out/disc/loss"))


def test_total_loss(case):
    assert_close(case.output.loss, case.recorded("out/total_loss"))


def test_gradients_of_every_variable(case):
    case.model.zero_grad()
    case.step().loss.backward()
    parameters = dict(case.model.named_parameters())
    wanted = {name: case.arrays[f"grad/{name}"] for name in case.variables}
    # a key's bias has no gradient (softmax does not see it), so its recorded rounding errors need a floor
    floor = 1e-7 * np.sqrt(sum(np.square(gradient).sum() for gradient in wanted.values()))
    for ours, variable in case.plan.variables.items():
        gradient = torch.from_numpy(np.array(variable.layout(wanted[variable.name])))
        error = (parameters[ours].grad - gradient).norm().item()
        assert error <= GRADIENT_TOLERANCE * gradient.norm().item() + floor, variable.name


def test_each_part_of_the_checkpoint_alone(case, tmp_path):
    if not case.checkpoint.is_dir():
        pytest.skip("recorded without a checkpoint")
    corrupted = case.recorded("out/fake/input_ids").long()
    assert main(case.arguments(tmp_path / "discriminator", "discriminator")) == 0
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "discriminator")
    assert_close(model(corrupted, **case.inputs()).logits, case.recorded("out/disc/logits"))

    assert main(case.arguments(tmp_path / "generator", "generator")) == 0
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "generator")
    positions = case.recorded("out/masked/masked_lm_positions").long()
    logits = model(case.recorded("out/masked/input_ids").long(), **case.inputs(), masked_positions=positions).logits
    assert_close(logits, case.recorded("out/mlm/logits"))
