"""Successors: where their weights come from, and what their predecessor's blocks are to them."""

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.models.module_map import parse_module_map
from bertkernels.models.plan import parse_plan
from bertkernels.models.successor import build_successor, replace_modules

_SIZES = {"vocab_size": 20, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_labels": 2}


@pytest.fixture
def predecessor():
    torch.manual_seed(0)
    return EncoderForSequenceClassification(EncoderConfig(**_SIZES, plan="4*(attention ffn)")).eval()


def same(block, other):
    return all(torch.equal(a, b) for a, b in zip(block.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("init", "sources"), [("first", [0, 1]), ("every", [0, 3]), ("fresh", [])])
def test_first_weights(predecessor, init, sources):
    found = build_successor(predecessor, parse_module_map("0 1-3", 4), init=init)
    assert found.model.config.plan == "2*(attention ffn)"
    assert found.copied == 2 * len(sources) and len(found.fresh) == 4 - found.copied
    before, after = predecessor.model.encoder.blocks, found.model.model.encoder.blocks
    assert [[same(block, other) for other in before] for block in after] == [
        [index == (sources[place] if sources else None) for index in range(4)] for place in range(2)
    ]
    assert torch.equal(
        found.model.model.embeddings.word_embeddings.weight, predecessor.model.embeddings.word_embeddings.weight
    )
    assert torch.equal(found.model.classifier.output.weight, predecessor.classifier.output.weight)


def test_blocks_of_another_kind_take_what_they_share(predecessor):
    plan = parse_plan("2*(mixed ffn)")
    found = build_successor(predecessor, parse_module_map("2", 4), plan)
    assert found.copied == 2 and found.fresh == ["mixed", "mixed"]
    ours, theirs = found.model.model.encoder.blocks[1].sublayers[1], predecessor.model.encoder.blocks[1].sublayers[1]
    assert torch.equal(ours.function.up.weight, theirs.function.up.weight)


def test_several_blocks_a_module(predecessor):
    """An order of bare sub-layers, two blocks for each two of the predecessor's."""
    found = build_successor(predecessor, parse_module_map("2", 4), parse_plan("2*(dynamic_conv ffn)"), init="every")
    assert found.fresh == ["dynamic_conv"] * 2
    found = build_successor(predecessor, parse_module_map("2", 4), parse_plan("4*ffn"), init="every")
    assert found.copied == 4
    replace_modules(found.model, predecessor, parse_module_map("2", 4))
    encoder = found.model.model.encoder
    encoder.gates = (False, True)
    before, after = predecessor.model.encoder.blocks, encoder.blocks
    assert [id(block) for block in encoder.running] == [id(block) for block in (*before[:2], *after[2:])]


def test_a_given_successor(predecessor):
    torch.manual_seed(1)
    given = EncoderForSequenceClassification(EncoderConfig(**_SIZES, plan="2*(dynamic_conv ffn)"))
    found = build_successor(predecessor, parse_module_map("2", 4), init=given)
    assert all(map(same, found.model.model.encoder.blocks, given.model.encoder.blocks))
    assert found.model.config.plan == given.config.plan
    wide = EncoderForSequenceClassification(EncoderConfig(**{**_SIZES, "hidden_size": 64}, plan="2*(attention ffn)"))
    with pytest.raises(InputError, match="does not fit the predecessor: it has hidden_size 64 instead of 32"):
        build_successor(predecessor, parse_module_map("2", 4), init=wide)
    with pytest.raises(InputError, match='the given successor has the plan "2.*", not'):
        build_successor(predecessor, parse_module_map("2", 4), parse_plan("2*(attention ffn)"), given)


def test_blocks_that_modules_cannot_share(predecessor):
    with pytest.raises(InputError, match="has 3 blocks, which 2 modules can't share equally"):
        build_successor(predecessor, parse_module_map("2", 4), parse_plan("3*(attention ffn)"))


def test_the_predecessor_is_not_part_of_the_successor(predecessor, tmp_path):
    found = build_successor(predecessor, parse_module_map("2", 4)).model.eval()
    alone = EncoderForSequenceClassification(found.config).eval()
    alone.load_state_dict(found.state_dict())
    replace_modules(found, predecessor, parse_module_map("2", 4))
    assert found.state_dict().keys() == alone.state_dict().keys()
    assert found.num_parameters() == alone.num_parameters()
    found.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == alone.state_dict().keys()
    ids = torch.randint(5, 20, (2, 7), generator=torch.Generator().manual_seed(0))
    wanted = alone(ids).logits
    assert torch.equal(found(ids).logits, wanted) and torch.equal(load_ours(tmp_path)(ids).logits, wanted)
    found.model.encoder.gates = (False, False)
    assert torch.equal(found(ids).logits, predecessor(ids).logits)


def test_modes_reach_the_predecessor(predecessor):
    found = build_successor(predecessor, parse_module_map("2", 4)).model
    replace_modules(found, predecessor, parse_module_map("2", 4))
    found.train()
    assert all(block.training for block in predecessor.model.encoder.blocks)
    found.eval()
    assert not any(block.training for block in predecessor.model.encoder.blocks)
