"""The ops' peers do what they stand for."""

import pytest
import torch
from transformers import ConvBertConfig
from transformers.models.convbert.modeling_convbert import (
    ConvBertIntermediate,
    ConvBertSelfAttention,
    GroupedLinearLayer,
    SeparableConv1D,
)

from bertkernels.bench import depthwise_conv, grouped_linear, light_conv
from bertkernels.bench.case import BOTH, FORWARD, Case
from bertkernels.bench.measure import QUICK, measure, ready_peers
from bertkernels.bench.op_bench import HUGGING_FACE, HUGGING_FACE_COMPILED
from bertkernels.bench.select import bench_of

OPS = ("light_conv", "depthwise_conv", "grouped_linear")


@pytest.fixture
def config() -> ConvBertConfig:
    return ConvBertConfig(
        hidden_size=32, num_attention_heads=4, head_ratio=2, intermediate_size=48, conv_kernel_size=5, num_groups=2
    )


def test_unfold_path_is_what_hugging_face_does(config):
    torch.manual_seed(0)
    layer = ConvBertSelfAttention(config).eval()
    x = torch.randn(3, 11, 32)
    with torch.no_grad():
        heads = layer.num_attention_heads
        spans = layer.key_conv_attn_layer(x.transpose(1, 2)).transpose(1, 2)
        logits = layer.conv_kernel_layer(spans * layer.query(x)).unflatten(-1, (heads, 5))
        values = layer.conv_out_layer(x).unflatten(-1, (heads, -1))
        context, _ = layer(x)
        expected = context.unflatten(-1, (2 * heads, -1))[:, :, heads:]  # convolution heads are the second half
        assert torch.equal(light_conv.unfold_path(values, logits), expected)


def test_transposed_conv1d_is_what_hugging_face_does(config):
    torch.manual_seed(0)
    layer = SeparableConv1D(config, 32, 16, 5)
    x = torch.randn(3, 11, 32)
    expected = layer.depthwise(x.transpose(1, 2)).transpose(1, 2)
    assert torch.equal(depthwise_conv.transposed_conv1d(x, layer.depthwise.weight.squeeze(1)), expected)


def test_permute_chain_is_what_hugging_face_does(config):
    torch.manual_seed(0)
    layer = ConvBertIntermediate(config)
    assert isinstance(layer.dense, GroupedLinearLayer)
    torch.nn.init.normal_(layer.dense.weight)
    torch.nn.init.normal_(layer.dense.bias)
    x = torch.randn(3, 11, 32)
    actual = grouped_linear.permute_chain(x.flatten(0, 1), layer.dense.weight, layer.dense.bias)
    assert torch.equal(actual, layer(x).flatten(0, 1))


@pytest.mark.parametrize("mode", [FORWARD, BOTH])
@pytest.mark.parametrize("op", OPS)
def test_peers_agree_and_are_the_named_ones(op, mode):
    case = Case(op, "small", 2, 12, mode)
    with ready_peers(case) as (peers, left_out):
        assert not left_out
        assert list(peers) == bench_of(case).names(case)
        assert list(peers)[0] == HUGGING_FACE
        assert [peer.floor for peer in peers.values()] == [False] * (len(peers) - 1) + [True]
        results = peers[HUGGING_FACE].call()
        assert len(results) == (1 if mode == FORWARD else 1 + len(bench_of(case).shapes(case)[0]))


def test_only_the_asked_for_peers_are_built():
    case = Case("light_conv", "small", 2, 12)
    best = bench_of(case).best(case)
    assert list(bench_of(case).peers(case, only=[best])) == [best]


def test_a_wrong_peer_gets_no_figures(monkeypatch):
    monkeypatch.setitem(light_conv.BENCH.others, HUGGING_FACE, lambda values, logits: values)
    with pytest.raises(AssertionError, match="away from that of 'Hugging Face'"):
        measure(Case("light_conv", "small", 2, 12), QUICK)


def test_what_cannot_be_compiled_is_left_out_with_the_reason(monkeypatch):
    def broken(model, inputs):
        raise RuntimeError("no compiler here")

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=broken, **options))
    measurement = measure(Case("light_conv", "small", 2, 12, compiled=True), QUICK)
    assert HUGGING_FACE in measurement.timings and HUGGING_FACE_COMPILED not in measurement.timings
    assert "no compiler here" in measurement.left_out[HUGGING_FACE_COMPILED]


def test_compiled_peer_agrees():
    with ready_peers(Case("light_conv", "small", 2, 12, BOTH, compiled=True)) as (peers, left_out):
        assert HUGGING_FACE_COMPILED in peers, left_out


@pytest.mark.parametrize(
    ("op", "forward", "backward"),  # MB of the published base at B32·T512 in bf16, weights left out
    [("light_conv", 26.9, 41.3), ("depthwise_conv", 50.3, 75.5)],
)
def test_bytes_of_an_ideal_op(op, forward, backward):
    cases = [Case(op, "base", 32, 512, mode, "bfloat16") for mode in (FORWARD, BOTH)]
    megabytes = [bench_of(case).bytes_moved(case) / 1e6 for case in cases]
    assert megabytes == pytest.approx([forward, forward + backward], rel=2e-3)
