"""Genotypes read, printed and fitted, random ones built and run, and the published sizes."""

import json
import os
from random import Random

import pytest
import torch

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.cost import forward_flops
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.genotype import (
    RELEASED,
    SUPERNET,
    check_budget,
    genotype_of,
    genotype_plan,
    genotype_texts,
    parse_genotype,
    published_size,
    random_genotype,
    read_genotype,
)
from bertkernels.models.inheritance import student_config
from bertkernels.models.plan import parse_plan
from bertkernels.models.presets import preset

SIZES = {
    "vocab_size": 40,
    "hidden_size": 12,
    "embedding_size": 8,
    "trigram_embeddings": True,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}


@pytest.mark.parametrize(
    ("name", "size", "without_fit", "macs"),
    [
        ("efficientbert-tiny", 9_375_144, "9.098", "0.71"),
        ("efficientbert-base", 15_737_724, "15.322", "1.53"),
        ("efficientbert-plus", 15_737_724, "15.322", "1.53"),
        ("efficientbert-plusplus", 14_241_864, "13.965", "1.40"),
        ("efficientbert-plusplus-wide", 15_972_264, "15.695", "1.62"),
        ("efficientbert-tinybert6", 70_116_608, "69.526", "5.99"),
        ("tinybert-4", 14_492_976, "14.253", "0.62"),
        ("tinybert-6", 66_955_008, "66.364", "5.59"),
    ],
)
def test_published_sizes(name, size, without_fit, macs):
    config = preset(name)
    assert published_size(config) == size
    plain = EncoderConfig(**config.to_dict() | {"pooler": False})
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in EncoderModel(plain).parameters())
    assert f"{count / 1e6:.3f}" == without_fit
    assert f"{forward_flops(plain, 128) / 2e9:.2f}" == macs


def test_presets_equal_the_recorded_sizes(golden_dir):
    file = golden_dir / "efficientbert" / "meta.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    recorded = json.loads(file.read_text())["real_sizes"]
    names = {
        "auto_bert": "efficientbert-base",
        "auto_bert_small": "efficientbert-tiny",
        "auto_bert_12": "efficientbert-plusplus",
        "auto_tiny_bert": "efficientbert-tinybert6",
    }
    for theirs, ours in names.items():
        assert published_size(preset(ours)) == recorded[theirs]["n_params_used_by_genotype"]
    assert published_size(preset("tinybert-4")) == recorded["tiny_bert"]["n_params_module"]
    supernet = preset("efficientbert-base", plan=genotype_plan(parse_genotype(SUPERNET), blocks=6))
    assert published_size(supernet) == recorded["supernet"]["n_params_module"]
    rounded = recorded["auto_bert_12"]["sub_model_M_original_formula"]
    assert published_size(preset("efficientbert-plusplus-wide")) / 1e6 == pytest.approx(rounded, abs=2e-3)


def test_the_released_one_and_back():
    genotype = read_genotype("released")
    assert genotype_texts(genotype) == list(RELEASED)
    assert genotype == genotype_of(preset("efficientbert-base"))
    assert genotype_of(preset("efficientbert-plusplus")) == tuple(gene for gene in genotype for _ in range(2))
    assert genotype_texts(parse_genotype(["linear(gelu(linear(x, w1)), w2)"])) == [
        "linear1_1(gelu(linear1_1(x,wb1)),wb2)"
    ]


@pytest.mark.parametrize("ending", ["json", "txt"])
def test_files(tmp_path, ending):
    file = tmp_path / f"genotype.{ending}"
    file.write_text(json.dumps(RELEASED) if ending == "json" else "\n".join(RELEASED) + "\n\n")
    assert genotype_texts(read_genotype(str(file))) == list(RELEASED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tanh(linear(gelu(linear(x,w1)),w2)\n", "genotype, 1: expression: expected ')', got the end (character 35)"),
        (f"{RELEASED[0]}\nlinear2_1(gelu(linear2_2(x,wb1)),wb2)", "genotype, 2: expression: its name differs"),
        ("linear(gelu(linear(x,w1)),w1)", "(rule each_weight_once) (character 13)"),
        ("", "needs at least one expression"),
        ("[1, 2", "is not a JSON list"),
        ("[1, 2]", "an expression must be text"),
    ],
)
def test_files_that_are_none(tmp_path, content, message):
    file = tmp_path / "genotype"
    file.write_text(content)
    with pytest.raises(InputError) as caught:
        read_genotype(str(file))
    assert message in str(caught.value) and str(file) in str(caught.value)


def test_genotypes_that_do_not_fit(tmp_path):
    with pytest.raises(InputError, match="neither released nor supernet nor a file"):
        read_genotype("relaesed")
    with pytest.raises(InputError, match="a genotype of 6 expressions does not fit 8 blocks: no multiple"):
        genotype_plan(parse_genotype(RELEASED), blocks=8)
    with pytest.raises(InputError, match="has no expression_ffn"):
        genotype_of(preset("bert-base"))
    check_budget(preset("efficientbert-base"), 15, 16)
    with pytest.raises(InputError, match=r"of 14.242 million parameters, the budget is 15 to 16: tanh\(linear4_2"):
        check_budget(preset("efficientbert-plusplus"), 15, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("expression=linear(tanh(gelu(linear(x, w1))), w2)", "(rule no_activation_inside_activation) (character 13)"),
        ("expression=mul(linear(x, w1), tanh(linear(x, w2))), ratio=2", "w2 takes 6 channels and is given 12"),
        ("expression=add(linear(tanh(linear(x, w1)), w2), x), ratio=5", "ratio] must be at most 4, got 5"),
        ("stack=9", "stack] must be at most 4, got 9"),
    ],
)
def test_configurations_that_cannot_be_built(options, message):
    with pytest.raises(InputError) as caught:
        EncoderConfig(**SIZES, plan=f"attention expression_ffn[{options}]")
    assert message in str(caught.value)


def test_expressions_outside_of_the_search_space_on_request():
    plan = "attention expression_ffn[expression=add(linear(tanh(gelu(linear(x, w1))), w2), max(x, x))]"
    with pytest.raises(InputError, match="rule no_activation_inside_activation"):
        EncoderConfig(**SIZES, plan=plan)
    model = EncoderModel(EncoderConfig(**SIZES, plan=plan, expression_rules=False))
    assert model(torch.ones(1, 3, dtype=torch.long)).last_hidden_state.isfinite().all()


def test_random_genotypes_are_read_back_built_and_run():
    """As many as $BERTKERNELS_GENOTYPES says."""
    generator = Random(0)
    for number in range(int(os.environ.get("BERTKERNELS_GENOTYPES", "100"))):
        widths = generator.choice(["crop", "pad", "pad_published"])
        sizes = SIZES | {"expression_widths": widths, "intermediate_size": generator.choice([12, 30])}
        config = EncoderConfig(**sizes, plan="2*(attention expression_ffn)")
        genotype = random_genotype(generator, config)
        assert parse_genotype(genotype_texts(genotype)) == genotype
        config = student_config(config, genotype)
        assert genotype_of(config) == genotype and str(parse_plan(config.plan)) == config.plan
        model = EncoderModel(config)
        out = model(torch.randint(1, 40, (2, 5)), torch.tensor([[1] * 5, [1] * 3 + [0] * 2])).last_hidden_state
        out.square().sum().backward()
        assert out.isfinite().all(), config.plan
        for name, weight in model.named_parameters():
            assert weight.grad is None or weight.grad.isfinite().all(), (number, name, config.plan)
