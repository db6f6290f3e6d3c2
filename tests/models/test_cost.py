"""Costs worked out from a configuration: against built models, torch's FLOP counter and published figures."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.cost import costs, forward_flops, parameters, sublayer_cost, training_flops
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.kinds import KINDS
from bertkernels.models.operations import COUNTINGS, ELECTRA, PRODUCTS, Operations
from bertkernels.models.plan import SublayerSpec
from bertkernels.models.presets import electra_preset, electra_preset_names, preset, preset_names
from bertkernels.models.sublayer import build_sublayer

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "embedding_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_kernel_size": 5,
    "max_position_embeddings": 24,
}
TOKENS = 11


def on_meta(make):
    with torch.device("meta"):
        return make()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def counted(run) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


# -- against built models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names())
def test_presets_have_as_many_parameters_as_the_model(name):
    assert parameters(preset(name)) == count(on_meta(lambda: EncoderModel(preset(name))))


@pytest.mark.parametrize(
    "changes",
    [{}, {"untied_generator_embeddings": True}, {"untied_generator": False}, {"uniform_generator": True}],
    ids=["published", "own embeddings", "one network", "no generator"],
)
def test_pairs_have_as_many_parameters_as_the_model(changes):
    config = ElectraConfig(discriminator=EncoderConfig(**SIZES, plan="dynamic_conv (mixed ffn)"), **changes)
    assert parameters(config) == count(ElectraForPreTraining(config))


OPTIONS = {
    "attention": [{}, {"heads": 3}, {"residual": "scaled", "output_activation": "gelu"}, {"residual": "weighted"}],
    "dynamic_conv": [{}, {"kernel": 4, "heads": 3}],
    "expression_ffn": [
        {},
        {"expression": "linear(relu(mul(linear(x, w1), x)), w2)", "ratio": 3},
        {"expression": "tanh(linear3_2(gelu(linear3_2(max(x,tanh(x)),wb1)),wb2))"},
    ],
    "ffn": [
        {},
        {"groups": 4, "width": 64},
        {"activation": "relu", "norm": "inner"},
        {"residual": "gated"},
        {"residual": "none", "norm": "output"},
    ],
    "linear_attention": [{}, {"heads": 3}],
    "mixed": [{}, {"kernel": 4, "heads": 3}, {"head_ratio": 4}],
}


@pytest.mark.parametrize(
    ("kind", "options"), [(kind, options) for kind in KINDS for options in OPTIONS.get(kind, [{}])]
)
def test_every_kinds_products_are_those_that_torch_counts(kind, options):
    config = EncoderConfig(**SIZES)
    found = sublayer_cost(config, SublayerSpec(kind, options), TOKENS)
    module = build_sublayer(config, SublayerSpec(kind, options)).eval()
    x = torch.randn(1, TOKENS, config.hidden_size)
    assert found.flops == counted(lambda: module(x)) > 0
    assert found.parameters == count(module)


def test_products_of_trigram_embeddings():
    config = EncoderConfig(**SIZES, plan="attention expression_ffn[stack=2]", trigram_embeddings=True)
    model = EncoderModel(config).eval()
    assert forward_flops(config, TOKENS) == counted(lambda: model(torch.zeros(1, TOKENS, dtype=torch.long)))
    assert parameters(config) == count(model)


@pytest.mark.parametrize("pooler", [False, True])
@pytest.mark.parametrize("tokens", [1, TOKENS, 24])
def test_an_encoders_products_are_those_that_torch_counts(tokens, pooler):
    config = EncoderConfig(**SIZES, plan="(mixed ffn) 2*(dynamic_conv attention[heads=2])", pooler=pooler)
    model = EncoderModel(config).eval()
    assert forward_flops(config, tokens) == counted(lambda: model(torch.zeros(1, tokens, dtype=torch.long)))


def test_parts_add_up():
    config = EncoderConfig(**SIZES, plan="(mixed ffn) dynamic_conv", pooler=True)
    parts = costs(config, TOKENS, ELECTRA)
    assert list(parts) == ["embeddings", (0, 0), (0, 1), (1, 0), "pooler"]
    assert sum(part.flops for part in parts.values()) == forward_flops(config, TOKENS, ELECTRA)
    assert sum(part.parameters for part in parts.values()) == parameters(config)


# -- known figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "batch", "known"),
    [
        ("electra-small", 128, "1.29e+18"),
        ("convbert-small", 128, "1.26e+18"),
        ("convbert-medium-small", 128, "1.57e+18"),
        ("convbert-base", 256, "1.89e+19"),
        ("lvbert-small", 128, "1.21e+18"),
        ("lvbert-medium", 128, "2.04e+18"),
        ("lvbert-base", 256, "1.82e+19"),
    ],
)
def test_a_million_steps_cost_what_electras_program_counts(name, batch, known):
    assert f"{training_flops(electra_preset(name), 128, batch * 10**6, ELECTRA):.2e}" == known


def test_electra_base_costs_what_was_published():
    assert training_flops(electra_preset("electra-base"), 512, 256 * 766_000, ELECTRA) == pytest.approx(
        6.42e19, rel=1e-3
    )


# -- what is counted how -----------------------------------------------------------------------------------------------


def test_countings():
    one_of_each = Operations(*(1 for _ in dataclasses.fields(Operations)))
    assert PRODUCTS(one_of_each) == 2 and ELECTRA(one_of_each) == 2 + 1 + 8 + 5 + 4 + 5
    assert PRODUCTS(one_of_each * 3 + Operations(products=4)) == 14
    assert COUNTINGS == {"products": PRODUCTS, "electra": ELECTRA}


def test_a_backward_pass_counts_as_two_forward_passes_by_products_and_one_by_electras():
    config = EncoderConfig(**SIZES, plan="ffn")
    for counting, passes in ((PRODUCTS, 3), (ELECTRA, 2)):
        one = training_flops(config, 16, 1, counting)
        assert one % passes == 0 and training_flops(config, 16, 5, counting) == 5 * one
        assert one // passes > forward_flops(config, 16, counting)


def test_training_adds_the_heads_and_the_generator():
    config = EncoderConfig(**SIZES, plan="mixed ffn")
    vocabulary, narrow, width = 50, 16, 32
    predicted = round(16 * 80 / 512 * 2 * (width * narrow + narrow * vocabulary))
    assert training_flops(config, 16, 1) == 3 * (forward_flops(config, 16) + predicted)

    detection = 16 * 2 * (width * width + width)
    alone = ElectraConfig(discriminator=config, uniform_generator=True)
    assert training_flops(alone, 16, 1) == 3 * (forward_flops(config, 16) + detection)
    one_network = ElectraConfig(discriminator=config, untied_generator=False)
    both = 2 * forward_flops(config, 16) + detection + predicted
    assert training_flops(one_network, 16, 1) == 3 * both


def test_sequences_that_no_position_is_there_for():
    with pytest.raises(InputError, match="sequences of 25 tokens are longer than max_position_embeddings, 24"):
        forward_flops(EncoderConfig(**SIZES), 25)


@pytest.mark.parametrize("name", electra_preset_names())
def test_every_pair_has_a_cost(name):
    pair = electra_preset(name)
    assert training_flops(pair, 128, 1) > 3 * forward_flops(pair.discriminator, 128)
