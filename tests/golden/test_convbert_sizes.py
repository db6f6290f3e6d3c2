"""Every variable of the released ConvBERT's three sizes has its place in ours; nothing is allocated."""

import json
from math import prod

import pytest

from bertkernels.models.convert.load import build_empty, weight_shapes
from bertkernels.models.convert.tensorflow_config import KnownSizes
from bertkernels.models.convert.tensorflow_plan import plan_variables
from bertkernels.models.presets import electra_preset

SIZES = ("small", "medium-small", "base")


@pytest.fixture(scope="module")
def described(recording):
    return json.loads(recording.read_text())


@pytest.mark.recordings("convbert/real_sizes.json")
@pytest.mark.parametrize("size", SIZES)
def test_every_variable_is_a_weight(described, size):
    shapes = {name: tuple(shape) for name, shape in described[size]["variables"].items()}
    plan = plan_variables(shapes, KnownSizes(), part="pretraining")
    assert {variable.name for variable in plan.variables.values()} == set(shapes)
    model = build_empty(plan.model_class, plan.config)
    expected = weight_shapes(model)
    assert expected.keys() == plan.variables.keys()
    for ours, variable in plan.variables.items():
        assert prod(expected[ours]) == prod(shapes[variable.name])

    counts = described[size]["param_counts"]
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(counts.values())
    assert sum(parameter.numel() for parameter in model.discriminator.model.parameters()) == counts["electra/"]


@pytest.mark.recordings("convbert/real_sizes.json")
@pytest.mark.parametrize("size", SIZES)
def test_inferred_architecture_is_the_preset(described, size):
    shapes = {name: tuple(shape) for name, shape in described[size]["variables"].items()}
    config = plan_variables(shapes, KnownSizes(), part="pretraining").config
    wanted = electra_preset(f"convbert-{size}")
    for found, known in ((config.discriminator, wanted.discriminator), (config.generator, wanted.generator)):
        for name in ("plan", "hidden_size", "embedding_size", "num_attention_heads", "intermediate_size"):
            assert getattr(found, name) == getattr(known, name), name
