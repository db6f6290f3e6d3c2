"""The op behind `feed_forward_block` where it is differentiated or drops out: forward, backward and autograd."""

import math

import torch

from . import blas, dispatch, extension, philox, registry
from .bias_activation import (
    activation_number,
    as_matrix,
    bias_activation_backward_reference,
    bias_activation_reference,
)
from .grouped_linear import grouped_linear_backward_reference, grouped_linear_reference
from .residual_norm import residual_norm_backward_op, residual_norm_op

# -- the registered op: (x, weights, seed, activation, eps, dropout_p, impl) -> (out, product, result, moments) --------
# Kept for the backward pass beside x: the up layer's product without its bias [M, F], the down layer's result [M, C]
# and the norm's moments [M, 2], in fp32 or fp64. What lies between the layers is activated anew, in the same pass that
# its gradient needs anyway; the modules one by one keep it, F more numbers a token. Dropout's mask is drawn anew too.


def _forward(x, up_weight, up_bias, down_weight, down_bias, norm_weight, norm_bias, seed, *rest):
    weights = (up_weight, up_bias, down_weight, down_bias, norm_weight, norm_bias)
    *options, impl = rest
    name = blas.implementation(launch_forward, x, impl)
    results = _forward_fake(x, *weights, seed, *rest)
    if x.numel():
        launch_forward.functions[name](results, x, *weights, seed, *options)
    else:
        for kept in results:
            kept.zero_()
    return results


def _forward_fake(x, up_weight, *_):
    rows = math.prod(x.shape[:-1])
    wide = torch.promote_types(x.dtype, torch.float32)
    product, result, moments = (
        x.new_empty((rows, width), dtype=wide) for width in (_hidden(up_weight), x.shape[-1], 2)
    )
    return x.new_empty(x.shape), product, result, moments


def _hidden(up_weight: torch.Tensor) -> int:
    return up_weight.shape[0] if up_weight.dim() == 2 else up_weight.shape[0] * up_weight.shape[2]


def _backward(grad, x, up_weight, up_bias, down_weight, norm_weight, seed, product, result, moments, *rest):
    activation, dropout_p, wanted, impl = rest
    name = blas.implementation(launch_backward, x, impl)
    weights = (up_weight, up_bias, down_weight, norm_weight)
    if x.numel() == 0:
        gradients = _backward_fake(grad, x, *weights, seed, product, result, moments, *rest)
        return tuple(gradient.zero_() for gradient in gradients)
    kept = (product, result, moments)
    return launch_backward.functions[name](grad.to(x.dtype), x, *weights, seed, kept, activation, dropout_p, wanted)


def _backward_fake(grad, x, up_weight, up_bias, down_weight, norm_weight, seed, product, result, moments, *rest):
    """Of x and the six weights; those that are not wanted are empty."""
    _, _, wanted, _ = rest
    width = norm_weight.shape
    shapes = (x.shape, up_weight.shape, (_hidden(up_weight),), down_weight.shape, width, width, width)
    return tuple(x.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True))


# -- launchers: one an implementation ----------------------------------------------------------------------------------


def _cpu_forward(results, x, up_weight, up_bias, down_weight, down_bias, norm_weight, norm_bias, seed, *options):
    activation, eps, dropout_p = options
    out, product, result, moments = results
    rows = blas.rows(as_matrix(x))  # [M, C]
    extension.C.feed_forward_training_forward_cpu(
        _shape(rows, up_weight, activation),
        extension.operand(rows),
        _layers(up_weight, up_bias, down_weight, down_bias),
        (norm_weight.data_ptr(), norm_bias.data_ptr(), eps),
        _dropout(seed, dropout_p),
        extension.operand(as_matrix(out)),
        (product.data_ptr(), result.data_ptr(), moments.data_ptr()),
        blas.sgemm()[0],
        torch.get_num_threads(),
    )


def _cpu_backward(grad, x, up_weight, up_bias, down_weight, norm_weight, seed, kept, activation, dropout_p, wanted):
    rows, grad = blas.rows(as_matrix(x)), as_matrix(grad)  # [M, C]
    product, result, _ = kept
    d_x = x.new_empty(x.shape if wanted[0] else 0)
    hidden, d_product, d_result = (torch.empty_like(each) for each in (product, product, result))
    width = norm_weight.shape[0]
    vectors = [x.new_empty(size) for size in (product.shape[1], width, width, width)]
    extension.C.feed_forward_training_backward_cpu(
        _shape(rows, up_weight, activation),
        extension.operand(rows),
        _layers(up_weight, up_bias, down_weight, None),
        (norm_weight.data_ptr(), 0, 0.0),
        _dropout(seed, dropout_p),
        extension.operand(grad),
        tuple(each.data_ptr() for each in kept),
        (d_x.data_ptr() if wanted[0] else 0, *(each.data_ptr() for each in (hidden, d_product, d_result, *vectors))),
        blas.sgemm()[0],
        torch.get_num_threads(),
    )
    d_up = _weight_gradient(up_weight, rows, d_product) if wanted[1] else x.new_empty(0)
    d_down = _weight_gradient(down_weight, hidden, d_result) if wanted[3] else x.new_empty(0)
    wanted_vectors = (wanted[2], *wanted[4:])
    d_up_bias, *others = (each if want else x.new_empty(0) for each, want in zip(vectors, wanted_vectors, strict=True))
    return d_x, d_up, d_up_bias, d_down, *others


def _shape(rows, up_weight, activation):
    """M, C, F, G and the activation's number, as the compiled code takes them."""
    groups = 1 if up_weight.dim() == 2 else up_weight.shape[0]
    return *rows.shape, _hidden(up_weight), groups, activation_number(activation)


def _layers(up_weight, up_bias, down_weight, down_bias):
    return blas.layer(blas.rows(up_weight), up_bias), blas.layer(blas.rows(down_weight), down_bias)


def _dropout(seed, dropout_p):
    return 0 if seed is None else seed.data_ptr(), philox.threshold(dropout_p), 1 / (1 - dropout_p)


def _weight_gradient(weight, x, d_out):
    """Of a layer from x [M, G·I] to what d_out [M, G·O] is the gradient of; [O, I] or [G, I, O] as the weight is."""
    if weight.dim() == 2:
        return torch.mm(d_out.T, x)
    groups = weight.shape[0]
    x, d_out = (each.unflatten(1, (groups, -1)).transpose(0, 1) for each in (x, d_out))  # [G, M, I], [G, M, O]
    return torch.bmm(x.mT, d_out)


def _reference_forward(results, x, up_weight, up_bias, down_weight, down_bias, norm_weight, norm_bias, seed, *options):
    activation, eps, dropout_p = options
    wide = torch.promote_types(x.dtype, torch.float32)
    rows = as_matrix(x).to(wide)  # [M, C]
    product = grouped_linear_reference(rows, _grouped(up_weight, wide))
    hidden = bias_activation_reference(product, _wide(up_bias, wide), activation)
    result = grouped_linear_reference(hidden, _grouped(down_weight, wide), _wide(down_bias, wide))
    norm = (norm_weight.to(wide), norm_bias.to(wide))
    out, moments = residual_norm_op(result, rows, *norm, seed, eps, dropout_p, "reference")
    for to, value in zip(results, (out.view(x.shape), product, result, moments), strict=True):
        to.copy_(value)


def _reference_backward(
    grad, x, up_weight, up_bias, down_weight, norm_weight, seed, kept, activation, dropout_p, wanted
):
    product, result, moments = kept
    wide = product.dtype
    rows, grad = as_matrix(x).to(wide), as_matrix(grad).to(wide)  # [M, C]
    norm = (result, rows, norm_weight.to(wide), seed, moments, dropout_p, [True] * 4, "reference")
    d_result, d_residual, d_norm_weight, d_norm_bias = residual_norm_backward_op(grad, *norm)
    d_result = d_residual if seed is None else d_result
    up_bias = _wide(up_bias, wide)
    hidden = bias_activation_reference(product, up_bias, activation)
    down = grouped_linear_backward_reference(d_result, hidden, _grouped(down_weight, wide))
    d_hidden, d_down_weight, d_down_bias = down
    d_product, d_up_bias = bias_activation_backward_reference(d_hidden, product, up_bias, activation)
    d_rows, d_up_weight, _ = grouped_linear_backward_reference(d_product, rows, _grouped(up_weight, wide))
    gradients = (
        (d_rows + d_residual).view(x.shape),
        _as_weight(d_up_weight, up_weight),
        d_up_bias,
        _as_weight(d_down_weight, down_weight),
        d_down_bias,
        d_norm_weight,
        d_norm_bias,
    )
    return tuple(
        gradient.to(x.dtype) if want else x.new_empty(0) for gradient, want in zip(gradients, wanted, strict=True)
    )


def _wide(vector: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if vector is None else vector.to(dtype)


def _grouped(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[O, I] as one group [1, I, O]; [G, I, O] as it is."""
    return (weight.T[None] if weight.dim() == 2 else weight).to(dtype)


def _as_weight(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return gradient[0].T.contiguous() if weight.dim() == 2 else gradient.contiguous()


launch_forward = dispatch.Launchers(
    "feed_forward_block", {"cpu": _cpu_forward, "reference": _reference_forward}, needs={"cpu": lambda: blas.sgemm()[1]}
)
launch_backward = dispatch.Launchers(
    "feed_forward_block",
    {"cpu": _cpu_backward, "reference": _reference_backward},
    needs={"cpu": lambda: blas.sgemm()[1]},
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

feed_forward_training_op = registry.register(
    "feed_forward_training",
    "(Tensor x, Tensor up_weight, Tensor? up_bias, Tensor down_weight, Tensor? down_bias, Tensor norm_weight, "
    "Tensor norm_bias, Tensor? seed, str? activation, float eps, float dropout_p, str impl)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
    autocast=False,
)
feed_forward_training_backward_op = registry.register(
    "feed_forward_training_backward",
    "(Tensor grad, Tensor x, Tensor up_weight, Tensor? up_bias, Tensor down_weight, Tensor norm_weight, Tensor? seed, "
    "Tensor product, Tensor result, Tensor moments, str? activation, float dropout_p, bool[7] wanted, str impl)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    autocast=False,
)


def _setup_context(ctx, inputs, output):
    x, up_weight, up_bias, down_weight, _, norm_weight, _, seed, ctx.activation, _, ctx.dropout_p, ctx.impl = inputs
    _, *kept = output
    ctx.mark_non_differentiable(*kept)
    ctx.set_materialize_grads(False)  # or zeros would be made for their gradients
    ctx.save_for_backward(x, up_weight, up_bias, down_weight, norm_weight, seed, *kept)


def _autograd_backward(ctx, grad, *_):
    if grad is None:
        return (None,) * 12
    wanted = list(ctx.needs_input_grad[:7])
    options = (ctx.activation, ctx.dropout_p, wanted, ctx.impl)
    gradients = feed_forward_training_backward_op(grad, *ctx.saved_tensors, *options)
    taken = (gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))
    return *taken, None, None, None, None, None


feed_forward_training_op.differentiate(_autograd_backward, _setup_context)
