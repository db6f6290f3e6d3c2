"""What each op of this package is in torch's own operations: for programs that are to run where the kernels are not.

`exported.run_decompositions(decomposition_table())` leaves nothing of this package in an exported program. The formulas
are the ops' references, which are differentiable: a program is decomposed first and differentiated after. So backward
ops are not in the table, and what a forward op keeps for its backward op alone comes out empty.
"""

from collections.abc import Callable

import torch

from .attention import attention_op, attention_reference
from .attention_block import attention_block_op, attention_block_reference
from .bias_activation import bias_activation_op, bias_activation_reference
from .depthwise_conv import depthwise_conv_op, depthwise_conv_reference
from .dynamic_conv_block import LAYERS as DYNAMIC_CONV_LAYERS
from .dynamic_conv_block import dynamic_conv_block_op, dynamic_conv_block_reference
from .expression_block import expression_block_op, expression_block_reference
from .feed_forward_block import feed_forward_block_op, feed_forward_block_reference
from .feed_forward_training import feed_forward_training_op
from .glu import glu_op, glu_reference
from .grouped_linear import grouped_linear_op, grouped_linear_reference
from .light_conv import light_conv_op, light_conv_reference
from .linear import linear_op, linear_reference
from .mixed_attention import join_light_conv_op, mixed_attention_op, mixed_attention_reference
from .mixed_block import mixed_block_op, mixed_block_reference
from .mixed_context import LAYERS, mixed_context_op, mixed_context_reference
from .residual_norm import residual_norm_op, residual_norm_reference
from .span_conv import span_conv_logits_op, span_conv_logits_reference, span_conv_op, span_conv_reference


def decomposition_table() -> dict[torch._ops.OpOverload, Callable]:
    """Each forward op with a function that takes its arguments and returns as many results."""
    table = {
        attention_op: _attention,
        attention_block_op: _attention_block,
        bias_activation_op: _bias_activation,
        depthwise_conv_op: _depthwise_conv,
        dynamic_conv_block_op: _dynamic_conv_block,
        expression_block_op: _expression_block,
        feed_forward_block_op: _feed_forward_block,
        feed_forward_training_op: _feed_forward_training,
        glu_op: _glu,
        grouped_linear_op: _grouped_linear,
        join_light_conv_op: _join_light_conv,
        light_conv_op: _light_conv,
        linear_op: _linear,
        mixed_attention_op: _mixed_attention,
        mixed_block_op: _mixed_block,
        mixed_context_op: _mixed_context,
        residual_norm_op: _residual_norm,
        span_conv_logits_op: _span_conv_logits,
        span_conv_op: _span_conv,
    }
    return {op.overload: function for op, function in table.items()}


def _attention(*arguments):
    *inputs, _ = arguments
    return attention_reference(*inputs)


def _attention_block(*arguments):
    *inputs, _ = arguments
    return attention_block_reference(*inputs)


def _bias_activation(x, bias, activation, impl):
    return bias_activation_reference(x, bias, activation)


def _depthwise_conv(x, weight, bias, lengths, cu_seqlens, causal, impl):
    return depthwise_conv_reference(x, weight, bias, lengths, cu_seqlens, causal)


def _dynamic_conv_block(x, depthwise_weight, *rest):
    layers = len(DYNAMIC_CONV_LAYERS)
    weights, biases, (*norm, cu_seqlens, seed, heads, eps, dropout_p, _, _) = (
        rest[:layers],
        rest[layers : 2 * layers],
        rest[2 * layers :],
    )
    options = (heads, cu_seqlens, seed, eps, dropout_p)
    out = dynamic_conv_block_reference(x, depthwise_weight, weights, biases, *norm, *options)
    return out, *(x.new_empty(0) for _ in range(6))


def _expression_block(*arguments):
    *inputs, _ = arguments
    return expression_block_reference(*inputs)


def _feed_forward_block(*arguments):
    *inputs, _ = arguments
    return feed_forward_block_reference(*inputs)


def _feed_forward_training(*arguments):
    *inputs, seed, activation, eps, dropout_p, _ = arguments
    out = feed_forward_block_reference(*inputs, activation, eps, seed, dropout_p)
    return out, *(out.new_empty(0) for _ in range(3))


def _glu(*arguments):
    *inputs, _ = arguments
    return glu_reference(*inputs)


def _grouped_linear(x, weight, bias, activation, keep, impl):
    return grouped_linear_reference(x, weight, bias, activation), x.new_empty(0)


def _join_light_conv(attended, values, logits, lengths, cu_seqlens, impl):
    return torch.cat([attended, light_conv_reference(values, logits, lengths, cu_seqlens).flatten(-2)], -1)


def _light_conv(values, logits, lengths, cu_seqlens, softmax, causal, impl):
    return light_conv_reference(values, logits, lengths, cu_seqlens, softmax, causal)


def _linear(x, weight, bias, multiplier, activation, keep, impl):
    return linear_reference(x, weight, bias, multiplier, activation), x.new_empty(0)


def _mixed_attention(query, *arguments):
    *inputs, _ = arguments
    return mixed_attention_reference(query, *inputs), query.new_empty(0)


def _mixed_block(*arguments):
    *inputs, _ = arguments
    return mixed_block_reference(*inputs)


def _mixed_context(x, depthwise_weight, *rest):
    layers = len(LAYERS)
    weights, biases, (bias, cu_seqlens, seed, dropout_p, heads, _) = rest[:layers], rest[layers:-6], rest[-6:]
    out = mixed_context_reference(x, depthwise_weight, weights, biases, heads, bias, cu_seqlens, seed, dropout_p)
    return out, *(x.new_empty(0) for _ in range(8))


def _residual_norm(x, residual, weight, bias, seed, eps, dropout_p, impl):
    return residual_norm_reference(x, residual, weight, bias, seed, eps, dropout_p), x.new_empty(0)


def _span_conv_logits(x, *arguments):
    *inputs, _, _ = arguments
    return span_conv_logits_reference(x, *inputs), x.new_empty(0)


def _span_conv(x, query, values, *arguments):
    *inputs, _, _ = arguments
    logits = span_conv_logits_reference(x, query, *inputs)
    return span_conv_reference(x, query, values, *inputs), logits, x.new_empty(0)
