"""Operations of each op for torch's FLOP counter (`torch.utils.flop_counter.FlopCounterMode`).

A multiplication with its addition counts as two, as torch counts them; activations, biases and softmax do not count.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch.utils.flop_counter import register_flop_formula

_ops = torch.ops.bertkernels
Shape = torch.Size


@register_flop_formula(_ops.linear)
def linear(x: Shape, weight: Shape, *_, **__) -> int:
    return 2 * prod(x[:-1]) * prod(weight)


@register_flop_formula(_ops.linear_backward)
def linear_backward(
    grad: Shape, x: Shape, weight: Shape, bias, product, multiplier, activation, wanted, *_, **__
) -> int:
    return linear(x, weight) * (bool(wanted[0]) + bool(wanted[1]))


@register_flop_formula(_ops.grouped_linear)
def grouped_linear(x: Shape, weight: Shape, *_, **__) -> int:
    return 2 * prod(x[:-1]) * prod(weight)


@register_flop_formula(_ops.grouped_linear_backward)
def grouped_linear_backward(grad: Shape, x: Shape, weight: Shape, bias, product, activation, wanted, *_, **__) -> int:
    return grouped_linear(x, weight) * (bool(wanted[0]) + bool(wanted[1]))


@register_flop_formula(_ops.depthwise_conv)
def depthwise_conv(x: Shape, weight: Shape, *_, **__) -> int:
    return 2 * prod(x) * weight[-1]


@register_flop_formula(_ops.depthwise_conv_backward)
def depthwise_conv_backward(grad: Shape, x: Shape, weight: Shape, lengths, cu_seqlens, causal, wanted, *_, **__) -> int:
    return depthwise_conv(x, weight) * (bool(wanted[0]) + bool(wanted[1]))


@register_flop_formula(_ops.light_conv)
def light_conv(values: Shape, logits: Shape, *_, **__) -> int:
    return 2 * prod(values) * logits[-1]


@register_flop_formula(_ops.light_conv_backward)
def light_conv_backward(grad: Shape, values: Shape, logits: Shape, *_, **__) -> int:
    return 2 * light_conv(values, logits)


@register_flop_formula(_ops.attention)
def attention(query: Shape, key: Shape, value: Shape, *_, **__) -> int:
    """Of packed sequences no shape tells the lengths: counted as one sequence, an upper bound."""
    *batch, tokens, heads, width = query
    return 2 * 2 * prod(batch) * heads * tokens * tokens * width


@register_flop_formula(_ops.attention_backward)
def attention_backward(grad: Shape, query: Shape, key: Shape, value: Shape, *_, **__) -> int:
    """Five products: the probabilities anew, and the gradients of probabilities, values, queries and keys."""
    return attention(query, key, value) // 2 * 5


@register_flop_formula(_ops.attention_block)
def attention_block(x: Shape, weights: list[Shape], biases, norm, norm_bias, heads: int, *_, **__) -> int:
    """Of packed sequences no shape tells the lengths: counted as one sequence, an upper bound."""
    head = (*x[:-1], heads, weights[0][0] // heads)
    return 2 * prod(x[:-1]) * sum(map(prod, weights)) + attention(head, head, head)


@register_flop_formula(_ops.mixed_attention)
def mixed_attention(query: Shape, key: Shape, value: Shape, conv_values: Shape, conv_logits: Shape, *_, **__) -> int:
    return attention(query, key, value) + light_conv(conv_values, conv_logits)


@register_flop_formula(_ops.mixed_attention_backward)
def mixed_attention_backward(
    grad: Shape, query: Shape, key: Shape, value: Shape, conv_values: Shape, conv_logits: Shape, *_, **__
) -> int:
    attended = attention_backward(query, query, key, value)
    return attended + light_conv_backward(conv_values, conv_values, conv_logits)


@register_flop_formula(_ops.join_light_conv)
def join_light_conv(attended: Shape, values: Shape, logits: Shape, *_, **__) -> int:
    return light_conv(values, logits)


@register_flop_formula(_ops.span_conv_logits)
def span_conv_logits(x: Shape, query: Shape, depthwise: Shape, pointwise: Shape, bias, kernel: Shape, *_, **__) -> int:
    return depthwise_conv(x, depthwise) + linear(x, pointwise) + linear((*x[:-1], kernel[1]), kernel)


@register_flop_formula(_ops.span_conv)
def span_conv(x: Shape, query: Shape, values: Shape, depthwise: Shape, pointwise: Shape, bias, kernel: Shape, *_, **__):
    logits = (*query[:-1], kernel[0] // query[-2])
    return span_conv_logits(x, query, depthwise, pointwise, bias, kernel) + light_conv(values, logits)


@register_flop_formula(_ops.span_conv_logits_backward)
def span_conv_logits_backward(
    grad: Shape,
    x: Shape,
    query: Shape,
    depthwise: Shape,
    pointwise: Shape,
    bias,
    kernel: Shape,
    product: Shape,
    lengths,
    cu_seqlens,
    wanted,
    *_,
    **__,
) -> int:
    """Wanted: x, query, depthwise, pointwise, its bias, kernel, its bias. Key's gradient is worked out in any case."""
    wants_x, _, wants_depthwise, wants_pointwise, _, wants_kernel, _ = map(bool, wanted)
    inner = (*x[:-1], kernel[1])
    spans = depthwise_conv(x, depthwise) * wants_pointwise  # anew
    return (
        spans
        + linear(inner, kernel) * (1 + wants_kernel)
        + linear(x, pointwise) * ((wants_x or wants_depthwise) + wants_pointwise)
        + depthwise_conv(x, depthwise) * (wants_x + wants_depthwise)
    )


@register_flop_formula(_ops.feed_forward_block)
def feed_forward_block(x: Shape, up: Shape, up_bias, down: Shape, *_, **__) -> int:
    return 2 * prod(x[:-1]) * (prod(up) + prod(down))


@register_flop_formula(_ops.expression_block)
def expression_block(x: Shape, weights: list[Shape], *_, **__) -> int:
    return 2 * prod(x[:-1]) * sum(map(prod, weights))


@register_flop_formula(_ops.feed_forward_training)
def feed_forward_training(x: Shape, up: Shape, up_bias, down: Shape, *_, **__) -> int:
    return feed_forward_block(x, up, up_bias, down)


@register_flop_formula(_ops.feed_forward_training_backward)
def feed_forward_training_backward(
    grad: Shape,
    x: Shape,
    up: Shape,
    up_bias,
    down: Shape,
    norm,
    seed,
    product,
    result,
    moments,
    activation,
    dropout_p,
    wanted,
    *_,
    **__,
) -> int:
    """The gradient between the layers is worked out in any case."""
    return linear(x, up) * (bool(wanted[0]) + bool(wanted[1])) + linear(x, down) * (1 + bool(wanted[3]))


@register_flop_formula(_ops.dynamic_conv_block)
def dynamic_conv_block(x: Shape, depthwise: Shape, *rest, **__) -> int:
    """Pointwise and kernel count as they are run: as one layer with the product of their weights, or, for few tokens
    without gradients, as two."""
    (value, gate, pointwise, kernel, output), (heads, *_, keep, _) = rest[:5], rest[-5:]
    inner = (*x[:-1], value[0])
    apart = linear(inner, pointwise) if not keep and prod(x[:-1]) <= kernel[0] else linear(kernel, pointwise)
    products = linear(x, value) + linear(x, gate) + apart + linear(inner, kernel) + linear(inner, output)
    return products + depthwise_conv(inner, depthwise) + light_conv(inner, (kernel[0] // heads,))


@register_flop_formula(_ops.dynamic_conv_block_backward)
def dynamic_conv_block_backward(grad: Shape, x: Shape, depthwise: Shape, *rest, **__) -> int:
    """Wanted: x, the weights of value and gate, those of pointwise and kernel, output's. For either of the latter a
    convolution is run anew; what passes through both is worked out in any case."""
    (value, gate, pointwise, kernel, output), (heads, _, wanted, _) = rest[:5], rest[-4:]
    wants_x, wants_projections, wants_span, wants_output = map(bool, wanted)
    inner = (*x[:-1], value[0])
    return (
        (linear(x, value) + linear(x, gate)) * (wants_x + wants_projections)
        + linear(inner, kernel) * (1 + wants_span)
        + linear(kernel, pointwise) * 2 * wants_span
        + linear(inner, output) * (1 + wants_output)
        + depthwise_conv(inner, depthwise) * (2 + wants_span)
        + light_conv(inner, (kernel[0] // heads,)) * (2 + wants_output)
    )


@register_flop_formula(_ops.mixed_block)
def mixed_block(x: Shape, depthwise: Shape, weights: list[Shape], biases, norm, norm_bias, heads: int, *_, **__) -> int:
    """Of packed sequences no shape tells the lengths: counted as one sequence, an upper bound."""
    inner = weights[0][0]
    head = (*x[:-1], heads, inner // heads)
    taps = (*x[:-1], heads, depthwise[1])
    products = 2 * prod(x[:-1]) * sum(map(prod, weights))
    return products + depthwise_conv(x, depthwise) + mixed_attention(head, head, head, head, taps)


@register_flop_formula(_ops.mixed_context)
def mixed_context(x: Shape, depthwise: Shape, *rest, **__) -> int:
    """Of packed sequences no shape tells the lengths: counted as one sequence, an upper bound."""
    weights, (heads, _) = rest[:6], rest[-2:]
    products = 2 * prod(x[:-1]) * sum(map(prod, weights))
    return products + depthwise_conv(x, depthwise) + mixed_attention(*_heads(x, weights, heads))


@register_flop_formula(_ops.mixed_context_backward)
def mixed_context_backward(grad: Shape, x: Shape, depthwise: Shape, *rest, **__) -> int:
    """Wanted: x, depthwise, the projections' weights and biases, pointwise, its bias, kernel, its bias. Gradients of
    keys, and of all that the heads take, are worked out in any case."""
    weights, (heads, wanted, _) = rest[:6], rest[-3:]
    wants_x, wants_depthwise, wants_projections, _, wants_pointwise, _, wants_kernel, _ = map(bool, wanted)
    projections, pointwise, kernel = (
        2 * prod(x[:-1]) * sum(map(prod, w)) for w in (weights[:4], weights[4:5], weights[5:])
    )
    return (
        mixed_attention_backward(grad, *_heads(x, weights, heads))
        + kernel * (1 + wants_kernel)
        + pointwise * ((wants_x or wants_depthwise) + wants_pointwise)
        + depthwise_conv(x, depthwise) * (wants_x + wants_depthwise)
        + projections * (wants_x + wants_projections)
    )


def _heads(x: Shape, weights: Sequence[Shape], heads: int) -> tuple[Shape, ...]:
    """Shapes of query, key, value, convolution values and logits."""
    head = (*x[:-1], heads, weights[0][0] // heads)
    return (head,) * 4 + ((*x[:-1], heads, weights[5][0] // heads),)
