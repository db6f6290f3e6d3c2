"""torch's FLOP counter sees through the fused ops: a patched model counts as the one it was made of."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import ConvBertConfig, ConvBertModel

import bertkernels
from bertkernels import ops


def operations(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("groups", [1, 2])
def test_a_patched_model_counts_as_before(groups):
    config = ConvBertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        num_groups=groups,
    )
    stock = ConvBertModel(config).eval()
    fused = copy.deepcopy(stock)
    bertkernels.patch(fused)
    ids = torch.randint(5, 99, (3, 17))
    with torch.no_grad():
        before, after = (operations(lambda model=model: model(input_ids=ids)) for model in (stock, fused))
    assert before == after > 0


def test_gradients_count_twice():
    x, weight, bias = torch.randn(7, 12, requires_grad=True), torch.randn(20, 12, requires_grad=True), torch.zeros(20)
    forward = 2 * 7 * 12 * 20
    assert operations(lambda: ops.linear(x, weight, bias, activation="gelu").sum().backward()) == 3 * forward
    values, logits = torch.randn(2, 9, 2, 8, requires_grad=True), torch.randn(2, 9, 2, 3, requires_grad=True)
    assert operations(lambda: ops.light_conv(values, logits).sum().backward()) == 3 * 2 * values.numel() * 3
    blocks = torch.randn(2, 6, 10, requires_grad=True)
    assert operations(lambda: ops.grouped_linear(x, blocks).sum().backward()) == 3 * 2 * 7 * blocks.numel()
    filters = torch.randn(12, 5, requires_grad=True)
    assert operations(lambda: ops.depthwise_conv(x[None], filters).sum().backward()) == 3 * 2 * x.numel() * 5


def test_an_attention_block_counts_as_its_parts():
    x, shapes = torch.randn(2, 11, 20), (*((24, 20),) * 3, (20, 24))
    weights, biases, norm = (
        [torch.randn(shape) for shape in shapes],
        [torch.randn(o) for o, _ in shapes],
        torch.ones(20),
    )
    heads = torch.randn(2, 11, 3, 8)
    inner = operations(lambda: ops.attention(heads, heads, heads))
    assert operations(lambda: ops.attention_block(x, weights, biases, norm, norm, 3)) == 2 * 22 * 4 * 24 * 20 + inner


def test_attention_counts_as_torchs():
    query, key, value = (torch.randn(2, 11, 3, 8, requires_grad=True) for _ in range(3))

    def theirs():
        heads_first = (x.transpose(1, 2) for x in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(*heads_first)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert operations(theirs) == operations(lambda: ops.attention(query, key, value, impl="reference"))
    both = operations(lambda: ops.attention(query, key, value).sum().backward())
    assert both == operations(lambda: ops.attention(query, key, value)) * 7 // 2


def test_blocks_count_as_their_parts():
    from bertkernels.nn import FeedForward, MixedAttention, PostNorm

    x = torch.randn(2, 11, 32)
    for function in (MixedAttention(32, 2, kernel_size=5), FeedForward(32, 48), FeedForward(32, 48, groups=2)):
        sublayer = PostNorm(function, 32).eval()
        composed = operations(lambda sublayer=sublayer: sublayer(x))
        with torch.no_grad():
            assert operations(lambda sublayer=sublayer: sublayer(x)) == composed > 0


def test_span_conv_counts_its_parts():
    x, query, values = (torch.randn(2, 9, *shape, requires_grad=True) for shape in ((12,), (2, 8), (2, 8)))
    shapes = ((12, 5), (16, 12), (16,), (6, 16), (6,))
    weights = [torch.randn(shape, requires_grad=True) for shape in shapes]
    tokens, depthwise, pointwise, kernel = 18, 12 * 5, 16 * 12, 6 * 16
    logits = 2 * tokens * (depthwise + pointwise + kernel)
    assert operations(lambda: ops.span_conv_logits(x, query, *weights)) == logits
    convolution = 2 * tokens * 16 * 3
    assert operations(lambda: ops.span_conv(x, query, values, *weights)) == logits + convolution
    gradients = 2 * logits + 2 * tokens * depthwise + 2 * convolution  # the span is worked out anew
    trained = operations(lambda: ops.span_conv(x, query, values, *weights).sum().backward())
    assert trained == logits + convolution + gradients


def test_mixed_context_counts_its_parts():
    x, *weights = (torch.randn(shape, requires_grad=True) for shape in ((2, 9, 12), (12, 5), *((16, 12),) * 5, (6, 16)))
    depthwise, *weights = weights
    heads, taps = torch.randn(2, 9, 2, 8), torch.randn(2, 9, 2, 3)
    inner = operations(lambda: ops.mixed_attention(heads, heads, heads, heads, taps))
    products, spans = 2 * 18 * (5 * 16 * 12 + 6 * 16), 2 * 18 * 12 * 5
    biases = [None] * 6
    assert operations(lambda: ops.mixed_context(x, depthwise, weights, biases, 2)) == products + spans + inner
    trained = operations(lambda: ops.mixed_context(x, depthwise, weights, biases, 2).sum().backward())
    heads, taps = heads.requires_grad_(), taps.requires_grad_()
    both = operations(lambda: ops.mixed_attention(heads, heads, heads, heads, taps).sum().backward())
    assert trained == 3 * (products + spans) + both


@pytest.mark.parametrize("tokens", [3, 40])
def test_a_dynamic_convolution_counts_as_what_it_runs(tokens):
    """Its two layers in a row are one with more tokens than kernels have rows, and with gradients, whose backward pass
    convolves anew."""
    heads, taps, width, channels = 4, 9, 24, 16
    shapes = (width, channels), (width, channels), (width, width), (heads * taps, width), (channels, width)
    weights, biases = [torch.randn(shape) for shape in shapes], [torch.randn(shape[0]) for shape in shapes]
    value, gate, pointwise, kernel, output = weights
    x, depthwise = torch.randn(2, tokens, channels), torch.randn(width, 5)
    tensors = [x, depthwise, *weights]

    def whole():
        return ops.dynamic_conv_block(x, depthwise, weights, biases, torch.ones(channels), torch.ones(channels), heads)

    def layers(fold):
        gated = (x @ value.T) * (x @ gate.T).sigmoid()
        spans = ops.depthwise_conv(gated, depthwise)
        logits = spans @ (kernel @ pointwise).T if fold else spans @ pointwise.T @ kernel.T
        convolved = ops.light_conv(gated.unflatten(-1, (heads, -1)), logits.unflatten(-1, (heads, -1)))
        return convolved.flatten(-2) @ output.T

    assert operations(whole) == operations(lambda: layers(fold=2 * tokens > heads * taps))
    for tensor in tensors:
        tensor.requires_grad_()
    anew = 2 * (2 * tokens * width) * (depthwise.shape[1] + taps)
    assert operations(lambda: whole().sum().backward()) == operations(lambda: layers(True).sum().backward()) + anew
