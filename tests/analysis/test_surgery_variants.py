"""Surgery that turns a trained encoder into a variant: activations, norms, attention without softmax, no FFN."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from bertkernels.analysis.layers import adapt
from bertkernels.analysis.surgery import Surgery
from bertkernels.errors import InputError
from bertkernels.nn import Attention, LinearAttention, WeightedResidual
from tests.analysis.encoders import FAMILIES, POST_NORM, batch, build, each, logits

_PLAIN_FFN = tuple(family for family in FAMILIES if family not in ("lvbert", "efficientbert"))
_REAL = batch()["attention_mask"] == 1


def _captured(model, places):
    with torch.no_grad(), adapt(model).capture(places) as got:
        model(**batch())
    return {place: (x[_REAL], y[_REAL]) for place, (x, y) in got.items()}


def _near(got, expected):
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@each(_PLAIN_FFN)
def test_activations_change_in_the_named_block_alone(family):
    model = build(family)
    before = logits(model)
    with Surgery(model).activation(1, "linear"):
        linear = _captured(model, [(1, "ffn_gelu")])[1, "ffn_gelu"][1]
    for function, expected in (("relu", linear.relu()), (torch.sin, linear.sin())):
        with Surgery(model).activation(1, function):
            got = _captured(model, [(1, "ffn_gelu"), (2, "ffn_gelu")])
            _near(got[1, "ffn_gelu"][1], expected)
            assert got[2, "ffn_gelu"][1].amin() < 0  # GELU's still
    with Surgery(model).activation(1, "gelu"):
        _near(logits(model), before)
    assert torch.equal(logits(model), before)


def test_an_activation_with_weights_trains():
    model, slope = build("bert"), nn.PReLU()
    with Surgery(model).activation(1, slope):
        model(**batch(labels=True)).loss.backward()
    assert slope.weight.grad.any()


@each(_PLAIN_FFN)
def test_attention_gets_an_activation_after_its_output_layer(family):
    model = build(family)
    plain = _captured(model, [(0, "self_attention_ff")])[0, "self_attention_ff"][1]
    with Surgery(model).activation(0, "gelu", part="attention"):
        _near(_captured(model, [(0, "self_attention_ff")])[0, "self_attention_ff"][1], functional.gelu(plain))


@each(tuple(family for family in POST_NORM if family != "lvbert"))
def test_norms_move(family):
    model = build(family)
    before = logits(model)
    norm = adapt(model).sublayers(0)[0].norm

    def normalised(x):  # by a norm that surgery has not moved
        return functional.layer_norm(x, (16,), norm.weight, norm.bias, norm.eps)

    places = [(0, "attention"), (0, "self_attention_ff"), (0, "attention_before_ln")]
    attention, function, on_sum = places
    plain = _captured(model, places)
    with Surgery(model).norm(0, "none", part="attention"):
        got = _captured(model, places)
        _near(got[attention][1], plain[on_sum][1])
    with Surgery(model).norm(0, "inside", part="attention"):
        got = _captured(model, places)
        _near(got[attention][1], plain[attention][0] + normalised(plain[function][1]))
    with Surgery(model).norm(0, "before", part="attention"):
        got = _captured(model, places)
        _near(got[attention][1], got[attention][0] + got[function][1])
        _near(got[function][0], normalised(got[attention][0]))
    assert torch.equal(logits(model), before)


@each(("bert", "efficientbert", "hf-bert"))
def test_attention_without_softmax_is_the_published_formula_with_padding_left_out(family):
    model = build(family)
    heads = adapt(model).heads(1)
    with Surgery(model).linear_attention(1), torch.no_grad(), adapt(model).capture([(1, "self_attention")]) as got:
        model(**batch())
    x, context = got[1, "self_attention"]
    query, key, value = (layer(x).unflatten(-1, (4, 4)).transpose(1, 2) for layer in heads.of_attention)
    weights = query @ key.transpose(-1, -2) / 2 * batch()["attention_mask"][:, None, None, :]  # √4
    expected = (weights @ value).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(context[_REAL], expected[_REAL], atol=1e-4, rtol=1e-4)


def test_attention_without_softmax_is_our_linear_attention():
    model, other = build("bert"), build("bert")
    for module in other.modules():
        if type(module) is Attention:
            module.__class__ = LinearAttention
    with Surgery(model).linear_attention(0).linear_attention(1).linear_attention(2):
        torch.testing.assert_close(logits(model), logits(other), atol=1e-4, rtol=1e-4)


@each(("bert", "convbert", "hf-bert", "hf-electra", "hf-convbert-unpadded"))
def test_padding_has_no_weight_without_softmax(family):
    """Convolutions of Hugging Face's look at padding by themselves, unless they run without."""
    model = build(family)
    given = batch()
    with Surgery(model).linear_attention(0).linear_attention(2), torch.no_grad():
        together = model(**given).logits
        alone = model(input_ids=given["input_ids"][2:3, :3], attention_mask=given["attention_mask"][2:3, :3]).logits
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=1e-4)


@each(("convbert", "hf-convbert", "hf-convbert-patched"))
def test_convolution_heads_keep_theirs_without_softmax(family):
    model = build(family)
    places = [(0, "convolution"), (0, "attention_heads")]
    before = _captured(model, places)
    with Surgery(model).linear_attention(0):
        after = _captured(model, places)
    _near(after[0, "convolution"][1], before[0, "convolution"][1])
    assert not torch.allclose(after[0, "attention_heads"][1], before[0, "attention_heads"][1], atol=1e-2)


@each(tuple(family for family in FAMILIES if family != "lvbert"))
def test_no_ffn_leaves_attention_alone(family):
    model = build(family)
    plain = _captured(model, [(1, "self_attention_ff")])[1, "self_attention_ff"][1]
    with Surgery(model).no_ffn(1, "gelu"):
        got = _captured(model, [(1, "encoder"), (1, "attention"), (1, "self_attention_ff")])
    assert torch.equal(got[1, "encoder"][1], got[1, "attention"][1])
    _near(got[1, "self_attention_ff"][1], functional.gelu(plain))


@each(POST_NORM)
def test_variants_are_undone_to_the_bit(family):
    model = build(family)
    before = logits(model)
    layers = adapt(model)
    attention = next(b for b in range(len(layers.blocks)) if layers.heads(b) and layers.heads(b).attention)
    edits = [
        lambda s: s.norm(attention, "before"),
        lambda s: s.norm(attention, "inside"),
        lambda s: s.norm(attention, "none"),
        lambda s: s.linear_attention(attention),
        lambda s: s.activation(attention, "tanh", part="attention"),
        lambda s: s.residual(attention, "attention", WeightedResidual(16)),
    ]
    if family in _PLAIN_FFN:
        edits += [lambda s: s.activation(1, "relu"), lambda s: s.no_ffn(1)]
    for edit in edits:
        with edit(Surgery(model)):
            assert not torch.equal(logits(model), before)
        assert torch.equal(logits(model), before)


def test_frames_of_variants_have_their_sites_and_can_be_cut():
    model = build("varied")
    layers = adapt(model)
    assert "attention_before_ln" in layers.sites(0) and "ffn_before_ln" not in layers.sites(0)
    assert "attention_before_ln" not in layers.sites(1) and "ffn_before_ln" in layers.sites(1)
    places = [(2, "attention_before_ln"), (2, "self_attention_ff"), (0, "ffn"), (0, "mlp")]
    before, frame = logits(model), model.model.encoder.blocks[2].sublayers[0]
    got = _captured(model, places)
    attention, output, ffn, mlp = (got[place] for place in places)
    _near(attention[1], output[1] + frame.residual(attention[0]))
    _near(ffn[1], mlp[1] + ffn[0])
    with Surgery(model).residual(0, "all", 0).residual(2, "attention", 0.5):
        got = _captured(model, places)
        attention, output, ffn, mlp = (got[place] for place in places)
        _near(attention[1], output[1] + 0.5 * attention[0])
        _near(ffn[1], mlp[1])
    with Surgery(model).remove(0, "ffn", "keep-norm"):  # its norm is inside
        assert torch.equal(*_captured(model, places)[0, "ffn"])
    assert torch.equal(logits(model), before)
    with pytest.raises(InputError, match="block 0 has a sub-layer without a LayerNorm over the sum"):
        Surgery(model).norm(0, "before")


@pytest.mark.parametrize("family, ask, message", [
    ("bert", lambda s: s.activation(0, "swoosh"), "activation must be one of .*gelu, .*, got 'swoosh'"),
    ("efficientbert", lambda s: s.activation(0, "relu"), "the expression_ffn of block 0 has no single activation"),
    ("bert", lambda s: s.norm(0, "after"), "placement must be one of before, inside, none, got 'after'"),
    ("lvbert", lambda s: s.linear_attention(0), "block 0 has no attention heads; it has dynamic_conv"),
    ("lvbert", lambda s: s.no_ffn(3), "block 3 has no FFN beside attention; it has ffn"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(family, ask, message):
    with pytest.raises(InputError, match=message):
        ask(Surgery(build(family)))
