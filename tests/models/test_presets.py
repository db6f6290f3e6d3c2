import json

import pytest
import torch

from bertkernels.errors import InputError
from bertkernels.models.electra import ElectraForPreTraining
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.presets import electra_preset, electra_preset_names, preset, preset_names


def on_meta(make):
    with torch.device("meta"):
        return make()


def parameters(module, besides=()):
    named = module.named_parameters()
    return sum(p.numel() for name, p in named if not name.startswith(tuple(besides)))


@pytest.mark.parametrize(
    "name, count",
    [
        ("bert-small", 28_763_648),
        ("bert-base", 109_482_240),
        ("electra-small", 13_483_008),
        ("electra-base", 108_891_648),
        ("convbert-small", 13_143_768),
        ("convbert-medium-small", 17_475_888),
        ("convbert-base", 105_680_520),
        ("lvbert-small", 12_525_856),
        ("lvbert-medium", 23_149_104),
        ("lvbert-base", 100_171_104),
    ],
)
def test_encoders_have_the_published_number_of_parameters(name, count):
    config = preset(name)
    assert parameters(on_meta(lambda: EncoderModel(config))) == count
    assert config.padding == "exact"


@pytest.mark.parametrize(
    "name, encoder, generator, found, predicted",
    [
        ("convbert-small", 13_143_768, 770_988, 66_049, 39_098),
        ("convbert-medium-small", 17_475_888, 871_884, 148_225, 43_194),
        ("convbert-base", 105_680_520, 9_334_744, 591_361, 229_434),
        ("lvbert-small", 12_525_856, 551_560, 66_049, 39_098),
        ("lvbert-medium", 23_149_104, 2_144_400, 148_225, 47_290),
        ("lvbert-base", 100_171_104, 8_716_832, 591_361, 229_434),
    ],
)
def test_pairs_have_the_published_number_of_parameters(name, encoder, generator, found, predicted):
    pair = on_meta(lambda: ElectraForPreTraining(electra_preset(name)))
    assert parameters(pair.discriminator.model) == encoder
    assert parameters(pair.discriminator.prediction) == found
    assert parameters(pair.generator.model, besides=["embeddings."]) == generator
    assert parameters(pair.generator.prediction, besides=["decoder."]) == predicted
    assert parameters(pair) == encoder + generator + found + predicted


@pytest.mark.parametrize("system", ["convbert", "lvbert"])
def test_pairs_equal_the_recorded_sizes(system, golden_dir):
    file = golden_dir / system / "real_sizes.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    recorded = json.loads(file.read_text())
    sizes = {size: known for size, known in recorded.items() if isinstance(known, dict) and "param_counts" in known}
    assert sizes
    for size, known in sizes.items():
        pair = electra_preset(f"{system}-{size}")
        narrow = known["embedding_size"] or known["bert_config"]["hidden_size"]
        assert pair.discriminator.embedding_size == pair.generator.embedding_size == narrow
        for config, theirs in ((pair.discriminator, "bert_config"), (pair.generator, "generator_config")):
            original = known[theirs]
            for name in ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers", "vocab_size"):
                assert getattr(config, name) == original[name], name
            if system == "convbert":
                assert config.conv_kernel_size == original["conv_kernel_size"]
                assert config.head_ratio == original["head_ratio"]
                groups = original["linear_groups"]
                assert config.plan == f"12*(mixed ffn{f'[groups={groups}]' if groups > 1 else ''})"
        model = on_meta(lambda pair=pair: ElectraForPreTraining(pair))
        counts = {
            "electra/": parameters(model.discriminator.model),
            "discriminator_predictions/": parameters(model.discriminator.prediction),
            "generator/": parameters(model.generator.model, besides=["embeddings."]),
            "generator_predictions/": parameters(model.generator.prediction, besides=["decoder."]),
        }
        assert counts == known["param_counts"]


@pytest.mark.parametrize("size", ["small", "medium", "base"])
def test_lvberts_order_is_the_released_one(size):
    pair = electra_preset(f"lvbert-{size}")
    blocks = pair.discriminator.parsed_plan.blocks
    numbers = {"dynamic_conv": 0, "attention": 1, "ffn": 2}
    order = [numbers[sublayer.kind] for block in blocks for sublayer in block.sublayers]
    assert order == [0, 0, 1, 2, 2, 1, 0, 2, 2, 1, 0, 0, 1, 2, 0, 2, 1, 0, 2, 0, 1, 1, 2, 1]
    assert [len(block.sublayers) for block in blocks] == 12 * [2]
    assert not any(sublayer.options for block in blocks for sublayer in block.sublayers)
    assert pair.generator.plan == pair.discriminator.plan and pair.discriminator.conv_kernel_size == 9


def test_changes_reach_both_networks():
    pair = electra_preset("convbert-small", vocab_size=100, plan="2*(mixed ffn)", hidden_size=128)
    assert pair.discriminator.vocab_size == pair.generator.vocab_size == 100
    assert pair.generator.plan == "2*(mixed ffn)" and pair.generator.hidden_size == 32
    assert preset("bert-small", padding="reference").padding == "reference"
    with pytest.raises(InputError, match="divisible"):
        preset("bert-small", hidden_size=100)


def test_every_name_works_and_others_get_a_suggestion():
    for name in preset_names():
        preset(name)
    for name in electra_preset_names():
        electra_preset(name)
    with pytest.raises(InputError, match="did you mean 'convbert-base'.*Known: bert-small"):
        preset("convbert-bsae")
    with pytest.raises(InputError, match="unknown ELECTRA preset 'bert-base'"):
        electra_preset("bert-base")
