"""What `adapt` says of encoders of every family, and what it captures."""

import pytest
import torch
from torch.nn import functional
from transformers import BertConfig, BertModel

from bertkernels.analysis.layers import adapt
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import ACTIVATIONS
from tests.analysis.encoders import PLANS, batch, build, each, logits

_ATTENTION = ["self_attention", "self_attention_ff", "ff_after_self_attention", "attention_before_ln", "attention"]
_FFN = ["mlp", "ffn_gelu", "ffn_before_ln", "ffn"]


def _all_places(layered):
    return [(block, site) for block in range(len(layered.blocks)) for site in layered.sites(block)]


def _captured(model):
    layered = adapt(model)
    with torch.no_grad(), layered.capture(_all_places(layered)) as captured:
        model(**batch())
    return layered, captured


@pytest.mark.parametrize("family, sites, heads", [
    ("bert", [*_ATTENTION, "attention_heads", *_FFN, "encoder"], (4, 0)),
    ("hf-bert", [*_ATTENTION, "attention_heads", *_FFN, "encoder"], (4, 0)),
    ("convbert", [*_ATTENTION, "convolution", "attention_heads", *_FFN, "encoder"], (2, 2)),
    ("hf-convbert-patched", [*_ATTENTION, "convolution", "attention_heads", *_FFN, "encoder"], (2, 2)),
    ("lvbert", [*_ATTENTION, "convolution", "encoder"], (0, 4)),
    ("efficientbert", [*_ATTENTION, "attention_heads", "mlp", "ffn_before_ln", "ffn", "mlp_2", "ffn_before_ln_2",
                       "ffn_2", "encoder"], (4, 0)),
])  # fmt: skip
def test_sites_and_heads(family, sites, heads):
    layered = adapt(build(family))
    assert list(layered.sites(0)) == sites
    found = layered.heads(0)
    assert (found.attention, found.convolution, found.width) == (*heads, 4)
    assert layered.head_mask().shape == (len(layered.blocks), 4)


def test_an_order_of_single_sublayers_has_as_many_blocks():
    layered = adapt(build("lvbert"))
    kinds = [layered.sublayers(block)[0].kind for block in range(6)]
    assert kinds == ["dynamic_conv", "dynamic_conv", "attention", "ffn", "ffn", "attention"]
    assert layered.heads(3) is None
    assert [layered.sites(block)["encoder"].mixes for block in range(6)] == [True] * 3 + [False] * 2 + [True]


@each()
def test_captured_states_fit_together(family):
    model = build(family)
    layered, captured = _captured(model)
    assert set(captured) == set(_all_places(layered))
    padding = batch()["attention_mask"] == 0
    unpadded = family in PLANS or family.endswith("unpadded")
    for (block, name), (x, y) in captured.items():
        assert (x.shape, y.shape) == tuple((4, 9, width) for width in layered.site(block, name).widths)
        if unpadded:
            assert not x[padding].any() and not y[padding].any()
    for block in range(len(layered.blocks)):
        x, y = captured[block, "encoder"]
        if block:
            assert torch.equal(captured[block - 1, "encoder"][1], x)
        sites = list(layered.sites(block))
        first, last = ("attention" if "attention" in sites else "ffn"), sites[-2] if "mlp" in sites else "attention"
        assert torch.equal(captured[block, first][0], x)
        assert torch.equal(captured[block, last][1], y)


@pytest.mark.parametrize("family", ["bert", "hf-bert", "convbert", "hf-convbert-patched"])
def test_captured_values_are_what_the_weights_make_of_them(family):
    model = build(family)
    layered, captured = _captured(model)
    real = batch()["attention_mask"] == 1
    attention, ffn = layered.sublayers(1)

    def near(place, expected):
        torch.testing.assert_close(captured[1, place][1][real], expected[real], atol=1e-5, rtol=1e-5)

    x, hidden = captured[1, "mlp"][0], captured[1, "ffn_gelu"][1]
    up, down = ffn.weights
    near("ffn_gelu", functional.gelu(up(x) if family != "convbert" else _grouped(up, x)))
    near("mlp", down(hidden))
    near("ffn_before_ln", x + captured[1, "mlp"][1])
    near("ffn", ffn.norm(captured[1, "ffn_before_ln"][1]))
    context = captured[1, "self_attention"][1]
    assert torch.equal(captured[1, "ff_after_self_attention"][0], context)
    near("self_attention_ff", attention.heads.output(context))
    near("attention", attention.norm(captured[1, "attention_before_ln"][1]))
    if "convbert" in family:
        halves = [captured[1, name][1] for name in ("attention_heads", "convolution")]
        assert torch.equal(torch.cat(halves, -1), context)


def _grouped(layer, x):
    """A GroupedLinear that applies an activation of its own, without it."""
    weight, bias = layer.weight, layer.bias  # [G, I, O], [G·O]
    return torch.einsum("btgi,gio->btgo", x.unflatten(-1, weight.shape[:2]), weight).flatten(-2) + bias


def test_attention_heads_are_captured_before_the_output_layer():
    model = build("hf-bert")
    layered, captured = _captured(model)
    x, context = captured[0, "self_attention"]
    query, key, value = (layer(x).unflatten(-1, (4, 4)).transpose(1, 2) for layer in layered.sublayers(0)[0].inner)
    scores = query @ key.transpose(-1, -2) / 2  # √4
    scores = scores.masked_fill(batch()["attention_mask"][:, None, None, :] == 0, -torch.inf)
    expected = (scores.softmax(-1) @ value).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(context, expected, atol=1e-5, rtol=1e-5)


@each()
def test_capturing_leaves_nothing_behind(family):
    model = build(family)
    before = logits(model)
    hooks = _hooks(model)
    _captured(model)
    assert _hooks(model) == hooks
    assert torch.equal(logits(model), before)


def _hooks(model):
    return [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]


def test_capture_sees_hidden_states_that_were_asked_for():
    """Then our blocks return the outputs of all their sub-layers."""
    model = build("bert")
    layered = adapt(model)
    with torch.no_grad(), layered.capture([(1, "encoder")]) as captured:
        states = model(**batch(), output_hidden_states=True).hidden_states
    assert torch.equal(captured[1, "encoder"][0], states[1])
    assert torch.equal(captured[1, "encoder"][1], states[2])


def test_activations_are_those_of_the_model():
    model = build("bert", hidden_act="relu")
    layered, captured = _captured(model)
    up = layered.sublayers(0)[1].inner[0]
    x, y = captured[0, "ffn_gelu"]
    real = batch()["attention_mask"] == 1
    torch.testing.assert_close(y[real], ACTIVATIONS["relu"](up(x))[real], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("model, message", [
    (lambda: torch.nn.Linear(2, 2), "Linear holds no encoder that is known; supported: EncoderModel, BertModel"),
    (lambda: torch.nn.ModuleList([build("bert"), build("bert")]), "ModuleList holds 2 encoders; give one of them"),
    (lambda: BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                  intermediate_size=8, is_decoder=True)), "BertModel is a decoder"),
])  # fmt: skip
def test_what_is_no_encoder_is_refused(model, message):
    with pytest.raises(InputError, match=message):
        adapt(model())


def test_missing_sites_and_blocks_are_named():
    layered = adapt(build("lvbert"))
    with pytest.raises(
        InputError, match="block 3 has no site 'attention'; it has mlp, ffn_gelu, ffn_before_ln, ffn, e"
    ):
        layered.capture([(3, "attention")])
    with pytest.raises(InputError, match="block 6 is not there: the model has blocks 0 to 5"):
        layered.sites(6)
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    assert adapt(EncoderModel(EncoderConfig(plan="2*ffn", **sizes))).heads(1) is None
