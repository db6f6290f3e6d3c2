"""Which parameters a selector freezes, in every family of encoders."""

import pytest
from torch import nn
from transformers import BertModel

from bertkernels.analysis.freezing import freeze
from bertkernels.analysis.layers import adapt
from bertkernels.analysis.surgery import Surgery
from bertkernels.errors import InputError
from tests.analysis.encoders import batch, build, each


def _frozen(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def _names(model, *beginnings):
    return {name for name, _ in model.named_parameters() if name.startswith(beginnings)}


@pytest.mark.parametrize("selector, beginnings", [
    ("embeddings", ["model.embeddings"]),
    ("head", ["classifier"]),
    ("pooler", ["model.pooler"]),
    ("pooler, embeddings", ["model.embeddings", "model.pooler"]),
    ("blocks:1-2", ["model.encoder.blocks.1", "model.encoder.blocks.2"]),
    ("blocks:0 blocks:2", ["model.encoder.blocks.0", "model.encoder.blocks.2"]),
    ("part:ffn", [f"model.encoder.blocks.{b}.sublayers.1.function" for b in range(3)]),
    ("part:attention", [f"model.encoder.blocks.{b}.sublayers.0.function" for b in range(3)]),
    ("part:norm", [f"model.encoder.blocks.{b}.sublayers.{s}.norm" for b in range(3) for s in range(2)]),
    ("blocks:1 & part:ffn, head", ["model.encoder.blocks.1.sublayers.1.function", "classifier"]),
    ("!head", ["model."]),
    ("!head & !pooler & !blocks:0-2", ["model.embeddings"]),
    ("all", ["model", "classifier"]),
    ("nothing", []),
])  # fmt: skip
def test_selectors_freeze_what_they_name(selector, beginnings):
    model = build("bert", pooler=True, embedding_size=8)
    report = freeze(model, selector)
    expected = _names(model, *beginnings) if beginnings else set()
    assert _frozen(model) == expected
    assert report.trains == sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert report.total == sum(one.numel() for one in model.parameters())
    report.thaw()
    assert not _frozen(model)


@each()
def test_parts_cover_every_block(family):
    model = build(family)
    freeze(model, "part:attention, part:ffn, part:norm")
    blocks = {id(parameter) for block in adapt(model).blocks for parameter in block.parameters()}
    assert {id(parameter) for parameter in model.parameters() if not parameter.requires_grad} == blocks


@each()
def test_only_what_trains_gets_gradients(family):
    model = build(family)
    report = freeze(model, "embeddings, blocks:0-1")
    model(**batch(labels=True)).loss.backward()
    assert all((one.grad is None) == (not one.requires_grad) for one in model.parameters())
    places = {name: (trains, total) for name, trains, total in report.rows}
    assert places["embeddings"][0] == places["block 0"][0] == places["block 1"][0] == 0
    assert places["block 2"][0] == places["block 2"][1] > 0 and places["head"][0] > 0
    assert str(report).startswith(f"{report.trains:,} of {report.total:,} parameters train: embeddings 0 of")


def test_positions_are_where_blocks_run_and_numbers_stay():
    model = build("hf-bert")
    blocks = adapt(model).blocks
    with Surgery(model).order([2, 0, 1]):
        freeze(model, "position:0")
        assert [next(block.parameters()).requires_grad for block in blocks] == [True, True, False]
        freeze(model, "blocks:0")
        assert [next(block.parameters()).requires_grad for block in blocks] == [False, True, False]


def test_surgery_keeps_removed_weights_frozen_and_names_what_it_added():
    model = build("bert")
    with Surgery(model).remove(0, "mlp", "zero").replace(1, "mlp", nn.Linear(16, 16)):
        freeze(model, "surgery").thaw()
        assert all("blocks.0.sublayers.1.function" in name for name in _frozen(model))
        freeze(model, "!surgery")
        assert {name for name, one in model.named_parameters() if one.requires_grad} == {
            "surgery.0.weight", "surgery.0.bias"
        }  # fmt: skip


@pytest.mark.parametrize("selector, message", [
    ("", "expected a name such as head or blocks:0-3"),
    ("layers:3", "'layers' is none of all, nothing, embeddings, pooler, head, surgery, blocks, position, part"),
    ("blocks:1-3", r"the model has blocks 0 to 2 \(character 8\)"),
    ("blocks:2-1", "the model has blocks 0 to 2"),
    ("blocks", "blocks needs a value, such as blocks:0-3"),
    ("blocks:x", "blocks are numbers"),
    ("position:9", "the model has positions 0 to 2"),
    ("part:mlp", "a part is one of attention, ffn, norm"),
    ("head:1", "head takes no value"),
    ("pooler", "the model has no pooler; beside blocks it has embeddings, head"),
    ("head,", "expected another name"),
    ("head & ", "expected a name"),
    ("head | pooler", r"expected a name such as head or blocks:0-3 \(character 6\)"),
])  # fmt: skip
def test_what_cannot_be_selected_is_refused(selector, message):
    model = build("bert")
    with pytest.raises(InputError, match=message):
        freeze(model, selector)
    assert not _frozen(model)


def test_a_model_without_a_head_has_none():
    model = build("hf-bert").bert
    assert isinstance(model, BertModel)
    with pytest.raises(InputError, match="the model has no head; beside blocks it has embeddings, pooler"):
        freeze(model, "head")
