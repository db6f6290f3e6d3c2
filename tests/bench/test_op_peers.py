"""The ops' peers do what they stand for."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import ConvBertConfig
from transformers.models.convbert.modeling_convbert import (
    ConvBertIntermediate,
    ConvBertSelfAttention,
    ConvBertSelfOutput,
    GroupedLinearLayer,
    SeparableConv1D,
)

from bertkernels.bench import (
    ENCODERS,
    depthwise_conv,
    dynamic_conv,
    grouped_linear,
    light_conv,
    linear,
    mixed_attention,
    residual_norm,
    span_conv,
)
from bertkernels.bench import OPS as ALL
from bertkernels.bench.case import BACKWARD, BOTH, FORWARD, Case
from bertkernels.bench.matrix_products import PRODUCTS
from bertkernels.bench.measure import QUICK, measure, ready_peers
from bertkernels.bench.op_bench import HUGGING_FACE, HUGGING_FACE_COMPILED
from bertkernels.bench.select import bench_of
from bertkernels.nn import DynamicConv, PostNorm

OPS = [op for op in ALL if op not in ENCODERS]
WITH_PRODUCTS = ("span_conv", "mixed_attention", "linear", "grouped_linear", "dynamic_conv")


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


def test_span_conv_and_mixed_attention_are_what_hugging_face_does(config):
    torch.manual_seed(0)
    layer = ConvBertSelfAttention(config).eval()
    separable, x = layer.key_conv_attn_layer, torch.randn(3, 11, 32)
    torch.nn.init.normal_(separable.bias)
    heads = layer.num_attention_heads
    with torch.no_grad():
        query, key, value, conv_values = (
            project(x).unflatten(-1, (heads, -1))
            for project in (layer.query, layer.key, layer.value, layer.conv_out_layer)
        )
        context, _ = layer(x)
        convolved = span_conv.hugging_face(
            x,
            query,
            conv_values,
            separable.depthwise.weight.squeeze(1),
            separable.pointwise.weight.squeeze(-1),
            separable.bias.squeeze(-1),
            layer.conv_kernel_layer.weight,
            layer.conv_kernel_layer.bias,
        )
        spans = separable(x.transpose(1, 2)).transpose(1, 2)
        logits = layer.conv_kernel_layer(spans * layer.query(x)).unflatten(-1, (heads, 5))
        mixed = mixed_attention.hugging_face(query, key, value, conv_values, logits)
    assert torch.equal(convolved, context.unflatten(-1, (2 * heads, -1))[:, :, heads:])
    assert torch.equal(mixed, context)


def test_dropout_add_norm_is_what_hugging_face_does(config):
    torch.manual_seed(0)
    layer = ConvBertSelfOutput(config)
    torch.nn.init.normal_(layer.LayerNorm.weight)
    torch.nn.init.normal_(layer.LayerNorm.bias)
    x, residual = torch.randn(3, 11, 32), torch.randn(3, 11, 32)
    for training, dropout_p in ((False, 0.0), (True, residual_norm.DROPOUT)):
        torch.manual_seed(1)
        expected = layer.train(training)(x, residual)
        torch.manual_seed(1)
        norm = (layer.LayerNorm.weight, layer.LayerNorm.bias)
        assert torch.equal(residual_norm.dropout_add_norm(layer.dense(x), residual, *norm, dropout_p), expected)


def test_dense_gelu_is_what_hugging_face_does(config):
    torch.manual_seed(0)
    config.num_groups = 1
    layer, x = ConvBertIntermediate(config), torch.randn(7, 32)
    assert torch.equal(linear.dense_gelu(x, layer.dense.weight, layer.dense.bias), layer(x))


def test_training_drops_elements_and_results_are_compared_without():
    case = Case("residual_norm", "small", 2, 12, BOTH)
    for peer in residual_norm.BENCH.peers(case, only=residual_norm.BENCH.names(case)[:2]).values():
        (once, *_), (again, *_) = peer.call(), peer.call()
        (without, *_), (compared, *_) = peer.compared(), peer.compared()
        assert not torch.equal(once, again) and torch.equal(without, compared)


def test_static_conv1d_is_as_wide_with_one_kernel_a_channel():
    case = Case("light_conv", "small", 2, 12, BOTH)
    peer = light_conv.BENCH.peers(case, only=[light_conv.STATIC])[light_conv.STATIC]
    out, d_x, d_weight = peer.call()
    assert peer.easier and not peer.floor
    assert out.shape == d_x.shape == light_conv.shapes(case)[1]
    assert d_weight.shape == (out[0, 0].numel(), 9)


@pytest.mark.parametrize("mode", [FORWARD, BOTH])
@pytest.mark.parametrize("op", OPS)
def test_peers_agree_and_are_the_named_ones(op, mode):
    case = Case(op, "small", 2, 12, mode)
    with ready_peers(case) as (peers, left_out):
        assert not left_out
        assert list(peers) == bench_of(case).names(case)
        assert list(peers)[0] == HUGGING_FACE
        floors = 2 if op in WITH_PRODUCTS else 1
        assert [peer.floor for peer in peers.values()] == [False] * (len(peers) - floors) + [True] * floors
        results = peers[HUGGING_FACE].call()
        assert len(results) == (1 if mode == FORWARD else 1 + len(bench_of(case).shapes(case)[0]))


def test_the_dynamic_convolution_in_plain_torch_is_the_module_in_its_frame():
    torch.manual_seed(0)
    frame = PostNorm(DynamicConv(32, heads=4, kernel_size=5), 32)
    layers = [getattr(frame.function, name) for name in ("value", "gate", "pointwise", "conv_kernel", "output")]
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    x = torch.randn(3, 11, 32)
    tensors = (x, frame.function.depthwise.weight, *weights, *biases, frame.norm.weight, frame.norm.bias)
    with torch.no_grad():
        expected = frame(x)
        for function in (dynamic_conv.plain_torch, dynamic_conv.one_by_one, partial(dynamic_conv.ours, impl="cpu")):
            torch.testing.assert_close(function(*tensors), expected, atol=2e-6, rtol=2e-6)


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
    [
        ("light_conv", 26.9, 41.3),
        ("depthwise_conv", 50.3, 75.5),
        ("span_conv", 62.9, 113.2),
        ("mixed_attention", 77.3, 129.3),
        ("residual_norm", 75.5, 125.8),
    ],
)
def test_bytes_of_an_ideal_op(op, forward, backward):
    cases = [Case(op, "base", 32, 512, mode, "bfloat16") for mode in (FORWARD, BACKWARD, BOTH)]
    megabytes = [bench_of(case).bytes_moved(case) / 1e6 for case in cases]
    assert megabytes == pytest.approx([forward, backward, forward + backward], rel=0.02)


@pytest.mark.parametrize("op", WITH_PRODUCTS)
def test_operations_are_those_that_the_products_take(op):
    for mode, times in ((FORWARD, 1), (BACKWARD, 2), (BOTH, 3)):
        case = Case(op, "small", 2, 12, mode)
        forward = bench_of(case).operations(replace(case, mode=FORWARD))
        assert bench_of(case).operations(case) == times * forward
        if mode != BACKWARD:
            with FlopCounterMode(display=False) as counter:
                bench_of(case).peers(case, only=[PRODUCTS])[PRODUCTS].call()
            assert counter.get_total_flops() == times * forward


def test_a_linear_layer_takes_the_operations_of_its_one_product():
    assert linear.BENCH.operations(Case("linear", "base", 8, 128)) == 2 * 1024 * 768 * 3072
