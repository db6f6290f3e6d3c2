"""`dynamic_conv_block`: a whole dynamic-convolution sub-layer, dropout, residual connection and norm included."""

import math
from collections.abc import Callable

import torch

from . import blas, checks, dispatch, extension, philox, registry
from .bias_activation import as_matrix
from .depthwise_conv import depthwise_conv_backward_reference, depthwise_conv_reference
from .glu import glu_backward_reference, glu_reference
from .light_conv import light_conv_backward_reference, light_conv_reference
from .linear import linear_reference
from .residual_norm import residual_norm_backward_op, residual_norm_op, residual_norm_reference
from .sequences import dense

LAYERS = ("value", "gate", "pointwise", "kernel", "output")
_NAMES = tuple((f"{name}'s weight", f"{name}'s bias") for name in LAYERS)


def dynamic_conv_block(
    x: torch.Tensor,
    depthwise_weight: torch.Tensor,
    weights: list[torch.Tensor],
    biases: list[torch.Tensor],
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
    *,
    cu_seqlens: torch.Tensor | None = None,
    eps: float = 1e-12,
    dropout_p: float = 0.0,
    impl: str | None = None,
) -> torch.Tensor:
    """LayerNorm(x + dropout(output(dynamic convolution of x))) (LV-BERT, Yu et al. 2021, as its code has it).

        gated     = value(x) · sigmoid(gate(x))
        logits    = kernel(pointwise(depthwise_conv(gated, depthwise_weight)))
        convolved = light_conv(gated, logits)
        out       = LayerNorm(x + dropout(output(convolved)))

    Nothing lies between pointwise and kernel: two linear layers in a row are one, whose weight is the product of
    theirs, [H·K, H·D]. Where there are more than H·K tokens, and wherever a gradient will be asked for, each call makes
    that small product (the parameters stay as they are) in place of one with all tokens, and the backward pass two
    small ones in place of two. Sums are rounded in another order than layer by layer, by no more.

    On the CPU a few sequences at a time go through all of it, so that what lies between stays in the threads' caches.
    Where a gradient will be asked for, what the gated linear unit gives, its gate, the logits and the output layer's
    result are kept beside x; the backward pass convolves anew and goes batch by batch too.

    Args:
        x: [B, T, C], or packed [total, C], with a contiguous last dimension.
        depthwise_weight: [H·D, S], S the width of the neighbourhood that kernels are made from.
        weights, biases: of the five `LAYERS` in their order, as `torch.nn.Linear` has them: value and gate C → H·D,
            pointwise H·D → H·D, kernel H·D → H·K, output H·D → C. All of x's dtype and device, last dimension
            contiguous.
        norm_weight, norm_bias: [C].
        heads: H.
        cu_seqlens: int32 [B + 1], packed form: sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1] - 1.
        eps: of the LayerNorm. dropout_p: from 0 to below 1, as in `residual_norm`; pass 0 outside training.
        impl: "cpu" (float32 only, with MKL) or "reference"; None takes the best that can run.

    Returns:
        x's shape, contiguous, of x's dtype. Sums are in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, or contents of `cu_seqlens` do not fit.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    op = "dynamic_conv_block"
    checks.tokens(op, x, None, cu_seqlens)
    _check_parameters(op, x, depthwise_weight, weights, biases, norm_weight, norm_bias, heads)
    if not 0 <= dropout_p < 1:
        raise ValueError(f"{op}: dropout_p must be from 0 to below 1, got {dropout_p}")
    tensors = (x, depthwise_weight, *weights, *biases, norm_weight, norm_bias)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    seed = philox.draw_seed(x.device) if dropout_p else None
    options = (cu_seqlens, seed, heads, eps, dropout_p, keep, dispatch.requested(impl))
    return dynamic_conv_block_op(*tensors, *options)[0]


def bind(
    depthwise_weight: torch.Tensor,
    weights: list[torch.Tensor],
    biases: list[torch.Tensor],
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
    eps: float,
) -> Callable[..., torch.Tensor]:
    """`dynamic_conv_block` without dropout, with its parameters bound to it: (x, cu_seqlens) → out, each as there.

    For plain inference in fp32 on the CPU, where implementation "cpu" runs. Parameters are contiguous, and must stay
    where they are as long as the function is called: it keeps their addresses.
    """
    op, channels = "dynamic_conv_block", norm_weight.shape[-1]
    _check_parameters(op, norm_weight, depthwise_weight, weights, biases, norm_weight, norm_bias, heads)
    sizes = _sizes(depthwise_weight, weights, heads)
    _, _, pointwise, kernel, _ = zip(weights, biases, strict=True)
    value, gate, of_pointwise, of_kernel, output = map(blas.layer, weights, biases)
    depthwise, norm = extension.operand(depthwise_weight), (norm_weight.data_ptr(), norm_bias.data_ptr(), eps)

    def call(x, cu_seqlens=None):
        checks.tokens(op, x, None, cu_seqlens, channels)
        out = extension.empty_like(x)
        if _are_fewer(kernel, x):
            folded = _fold(pointwise, kernel)
            _launch(out, x, sizes, depthwise, (value, gate, blas.layer(*folded), output), norm, cu_seqlens)
        elif x.numel():
            _launch(out, x, sizes, depthwise, (value, gate, of_kernel, output, of_pointwise), norm, cu_seqlens)
        return out

    return call


def _check_parameters(op, like, depthwise_weight, weights, biases, norm_weight, norm_bias, heads) -> None:
    """`like` has C channels, and the dtype and the device that they all must have."""
    if len(weights) != len(LAYERS) or len(biases) != len(LAYERS):
        raise ValueError(f"{op}: weights and biases must be those of {', '.join(LAYERS)}")
    for (name, _), weight in zip(_NAMES, weights, strict=True):
        checks.tensor(op, name, weight, 2, "[O, I]")
    checks.tensor(op, "depthwise_weight", depthwise_weight, 2, "[H·D, S]")
    channels, width, rows, span = like.shape[-1], weights[0].shape[0], weights[3].shape[0], depthwise_weight.shape[1]
    if heads < 1 or width % heads or width == 0 or rows % heads or rows == 0 or span == 0:
        raise ValueError(
            f"{op}: value's {width} rows must be H·D, kernel's {rows} rows H·K with H = {heads} heads, and "
            f"depthwise_weight's {span} taps at least 1"
        )
    checks.shape(op, "depthwise_weight", depthwise_weight, (width, span), "[H·D, S]")
    checks.alike(op, "depthwise_weight", depthwise_weight, "x", like)
    shapes = ((width, channels), (width, channels), (width, width), (rows, width), (channels, width))
    for (weight_name, bias_name), weight, bias, shape in zip(_NAMES, weights, biases, shapes, strict=True):
        checks.companion(op, weight_name, weight, shape, "[O, I]", "x", like)
        checks.companion(op, bias_name, bias, shape[:1], "one number a channel", "x", like)
    checks.companion(op, "norm_weight", norm_weight, (channels,), "one number a channel", "x", like)
    checks.companion(op, "norm_bias", norm_bias, (channels,), "one number a channel", "x", like)


# -- reference ---------------------------------------------------------------------------------------------------------


def dynamic_conv_block_reference(
    x: torch.Tensor,
    depthwise_weight: torch.Tensor,
    weights: list[torch.Tensor],
    biases: list[torch.Tensor],
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
    cu_seqlens: torch.Tensor | None = None,
    seed: torch.Tensor | None = None,
    eps: float = 1e-12,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """The specification of `dynamic_conv_block`, in plain torch operations; differentiable; in fp32 or fp64, layer by
    layer."""
    wide = torch.promote_types(x.dtype, torch.float32)
    wide_x, wide_depthwise, *layers = (tensor.to(wide) for tensor in (x, depthwise_weight, *weights, *biases))
    value, gate, pointwise, kernel, output = zip(layers[: len(LAYERS)], layers[len(LAYERS) :], strict=True)
    gated = glu_reference(linear_reference(wide_x, *value), linear_reference(wide_x, *gate))
    span = depthwise_conv_reference(gated, wide_depthwise, None, None, cu_seqlens)
    logits = linear_reference(linear_reference(span, *pointwise), *kernel)
    convolved = light_conv_reference(
        gated.unflatten(-1, (heads, -1)), logits.unflatten(-1, (heads, -1)), None, cu_seqlens
    )
    result = linear_reference(convolved.flatten(-2), *output)
    return residual_norm_reference(result, wide_x, norm_weight, norm_bias, seed, eps, dropout_p).to(x.dtype)


# -- the registered op -------------------------------------------------------------------------------------------------
# (x, depthwise_weight, the layers' weights, their biases, norm_weight, norm_bias, cu_seqlens, seed, heads, eps,
#  dropout_p, keep, impl) -> out, gated, gate's product without its bias [M, H·D], logits [M, H·K], pointwise and kernel
#  as one weight [H·K, H·D], the output layer's result [M, C], the norm's moments [M, 2]
# All but `out` are there for the backward pass, in fp32 or fp64, and empty without `keep`.

_LAYERS = len(LAYERS)


def _forward(x, depthwise_weight, *rest):
    layers, norm, options = rest[: 2 * _LAYERS], rest[2 * _LAYERS : 2 * _LAYERS + 2], rest[2 * _LAYERS + 2 :]
    *options, keep, impl = options
    for tensor in (depthwise_weight, *layers, *norm):
        if tensor.dtype != x.dtype:  # which no check has looked at under autocast
            raise TypeError(f"dynamic_conv_block: all tensors must have one dtype, got {x.dtype} and {tensor.dtype}")
    results = _forward_fake(x, depthwise_weight, *rest)
    name = blas.implementation(launch_forward, x, impl)
    if x.numel():
        launch_forward.functions[name](results, x, depthwise_weight, layers, norm, *options, keep)
    else:
        for result in results:
            result.zero_()
    return results


def _forward_fake(x, depthwise_weight, *rest):
    keep, weights = rest[-2], rest[:_LAYERS]
    rows, wide = math.prod(x.shape[:-1]), torch.promote_types(x.dtype, torch.float32)
    (width, channels), logits = weights[0].shape, weights[3].shape[0]
    shapes = ((rows, width), (rows, width), (rows, logits), (logits, width), (rows, channels), (rows, 2))
    return x.new_empty(x.shape), *(x.new_empty(shape if keep else 0, dtype=wide) for shape in shapes)


def _backward(grad, x, depthwise_weight, *rest):
    weights, (gate_bias, pointwise_bias, norm_weight, *kept) = rest[:_LAYERS], rest[_LAYERS:-6]
    cu_seqlens, seed, heads, dropout_p, wanted, impl = rest[-6:]
    name = blas.implementation(launch_backward, x, impl)
    if x.numel() == 0:
        return tuple(gradient.zero_() for gradient in _backward_fake(grad, x, depthwise_weight, *rest))
    inputs = (grad.to(x.dtype), x, depthwise_weight, weights, gate_bias, norm_weight, kept)
    launch = launch_backward.functions[name]
    d_x, d_vectors, d_projections, d_folded, d_output = launch(*inputs, cu_seqlens, seed, heads, dropout_p, wanted)
    span = [None] * 3
    if wanted[2]:
        first, rows = 2 * weights[0].shape[0], weights[3].shape[0]
        d_folded_bias = d_vectors[first : first + rows]  # that of kernel's bias, to which pointwise's was added
        span = _unfold(*weights[2:4], pointwise_bias, d_folded, d_folded_bias)
    gradients = (d_x, d_vectors, d_projections, *span, d_output)
    return tuple(x.new_empty(0) if gradient is None else gradient.to(x.dtype) for gradient in gradients)


def _unfold(pointwise, kernel, pointwise_bias, d_folded, d_folded_bias):
    """Gradients of pointwise's weight and bias and of kernel's weight from those of kernel · pointwise [H·K, H·D] and
    of kernel · pointwise_bias + kernel_bias [H·K]."""
    pointwise, kernel, pointwise_bias = (each.to(d_folded.dtype) for each in (pointwise, kernel, pointwise_bias))
    d_kernel = torch.mm(d_folded, pointwise.T).addr_(d_folded_bias, pointwise_bias)
    return torch.mm(kernel.T, d_folded), torch.mv(kernel.T, d_folded_bias), d_kernel


def _backward_fake(grad, x, depthwise_weight, *rest):
    """Gradients of x; of all vectors (`_split_vectors`); of the weights of value and gate [2·H·D, C]; of pointwise's
    weight and bias and kernel's weight; of output's weight. Those that are not wanted are empty, vectors aside."""
    weights, wanted = rest[:_LAYERS], rest[-2]
    wants_x, wants_projections, wants_span, wants_output = wanted
    (width, channels), logits, span = weights[0].shape, weights[3].shape[0], depthwise_weight.shape[1]
    shapes = (
        (x.shape, wants_x),
        (((2 + span) * width + logits + 3 * channels,), True),
        ((2 * width, channels), wants_projections),
        ((width, width), wants_span),
        ((width,), wants_span),
        ((logits, width), wants_span),
        ((channels, width), wants_output),
    )
    return tuple(x.new_empty(shape if want else 0) for shape, want in shapes)


def _split_vectors(d_vectors, depthwise_weight, kernel_weight, channels):
    """Gradients of the biases of value, gate, kernel and output, of the norm's weight and bias, and of depthwise."""
    width, span = depthwise_weight.shape
    sizes = (width, width, kernel_weight.shape[0], channels, channels, channels, width * span)
    *vectors, d_depthwise = d_vectors.split(sizes)
    return *vectors, d_depthwise.view(width, span)


# -- launchers: one an implementation ----------------------------------------------------------------------------------


def _cpu_forward(results, x, depthwise_weight, layers, norm, cu_seqlens, seed, heads, eps, dropout_p, keep):
    out, *kept = results
    weights, biases = [blas.rows(weight) for weight in layers[:_LAYERS]], list(layers[_LAYERS:])
    value, gate, pointwise, kernel, output = zip(weights, biases, strict=True)
    gated, gate_product, logits, folded, result, moments = kept
    if keep or _are_fewer(kernel, x):
        used = (value, gate, _fold(pointwise, kernel, folded if keep else None), output)
    else:
        used = (value, gate, kernel, output, pointwise)
    _launch(
        out,
        x,
        _sizes(depthwise_weight, weights, heads),
        extension.operand(depthwise_weight),
        tuple(blas.layer(*layer) for layer in used),
        (norm[0].data_ptr(), norm[1].data_ptr(), eps),
        cu_seqlens,
        _dropout(seed, dropout_p),
        tuple(each.data_ptr() if keep else 0 for each in (gated, gate_product, logits, result, moments)),
    )


def _are_fewer(kernel, x):
    """Whether kernel [H·K, H·D] has fewer rows than x has tokens."""
    return x.numel() > kernel[0].shape[0] * x.shape[-1]


def _fold(pointwise, kernel, out=None):
    """Weight [H·K, H·D] and bias of two layers in a row as one."""
    return torch.mm(kernel[0], pointwise[0], out=out), torch.addmv(kernel[1], kernel[0], pointwise[1])


def _launch(out, x, sizes, depthwise, layers, norm, cu_seqlens, dropout=(0, 0, 1.0), kept=(0,) * 5):
    rows, starts = blas.matrix(x), dense(cu_seqlens)  # [M, C]
    extension.C.dynamic_conv_block_forward_cpu(
        _shape(x, sizes, starts),
        extension.rows_operand(rows),
        depthwise,
        layers,
        norm,
        dropout,
        kept,
        extension.rows_operand(out),
        blas.sgemm()[0],
        torch.get_num_threads(),
    )


def _cpu_backward(
    grad, x, depthwise_weight, weights, gate_bias, norm_weight, kept, cu_seqlens, seed, heads, dropout_p, wanted
):
    gated, gate_product, logits, folded, result, moments = kept
    weights = [blas.rows(weight) for weight in weights]
    value, gate, _, _, output = weights
    rows, grad, starts = blas.rows(as_matrix(x)), as_matrix(grad), dense(cu_seqlens)  # [M, C]
    (width, span), channels = depthwise_weight.shape, rows.shape[1]
    shapes = (x.shape, (2 * width, channels), folded.shape, output.shape)
    gradients = [x.new_empty(shape) if want else None for shape, want in zip(shapes, wanted, strict=True)]
    d_vectors = x.new_empty((2 + span) * width + logits.shape[1] + 3 * channels)
    extension.C.dynamic_conv_block_backward_cpu(
        _shape(x, _sizes(depthwise_weight, weights, heads), starts),
        extension.operand(rows),
        extension.operand(depthwise_weight),
        (blas.layer(value, None), blas.layer(gate, gate_bias), blas.layer(folded, None), blas.layer(output, None)),
        (norm_weight.data_ptr(), 0, 0.0),
        _dropout(seed, dropout_p),
        tuple(each.data_ptr() for each in (gated, gate_product, logits, result, moments)),
        extension.operand(grad),
        (*(0 if gradient is None else gradient.data_ptr() for gradient in gradients), d_vectors.data_ptr()),
        blas.sgemm()[0],
        torch.get_num_threads(),
    )
    d_x, *of_weights = gradients
    return d_x, d_vectors, *of_weights


def _sizes(depthwise_weight, weights, heads):
    """H, D, K and S."""
    return heads, weights[0].shape[0] // heads, weights[3].shape[0] // heads, depthwise_weight.shape[1]


def _shape(x, sizes, starts):
    """B, T, C, H, D, K, S and the address of cu_seqlens, as the compiled code takes them."""
    batches, tokens = x.shape[:2] if starts is None else (starts.shape[0] - 1, x.shape[0])
    return batches, tokens, x.shape[-1], *sizes, 0 if starts is None else starts.data_ptr()


def _dropout(seed, dropout_p):
    return 0 if seed is None else seed.data_ptr(), philox.threshold(dropout_p), 1 / (1 - dropout_p)


def _reference_forward(results, x, depthwise_weight, layers, norm, cu_seqlens, seed, heads, eps, dropout_p, keep):
    checks.sequence_values("dynamic_conv_block", x.shape[-2], None, cu_seqlens)
    if not keep:
        weights, biases = list(layers[:_LAYERS]), list(layers[_LAYERS:])
        options = (heads, cu_seqlens, seed, eps, dropout_p)
        results[0].copy_(dynamic_conv_block_reference(x, depthwise_weight, weights, biases, *norm, *options))
        return
    tensors = (each.to(results[1].dtype) for each in (x, depthwise_weight, *layers, *norm))
    x, depthwise_weight, value, gate, pointwise, kernel, output, *vectors = tensors
    value_bias, gate_bias, pointwise_bias, kernel_bias, output_bias, norm_weight, norm_bias = vectors
    gate_product = linear_reference(x, gate)  # [B, T, H·D]
    gated = glu_reference(linear_reference(x, value), gate_product, value_bias, gate_bias)
    folded = kernel @ pointwise  # [H·K, H·D]
    span = depthwise_conv_reference(gated, depthwise_weight, None, None, cu_seqlens)
    logits = linear_reference(span, folded, kernel @ pointwise_bias + kernel_bias)
    convolved = light_conv_reference(*_in_heads(heads, gated, logits), None, cu_seqlens).flatten(-2)
    result = linear_reference(convolved, output, output_bias)
    norm = (norm_weight, norm_bias, seed, eps, dropout_p, "reference")
    out, moments = residual_norm_op(as_matrix(result), as_matrix(x), *norm)
    values = (out, gated, gate_product, logits, folded, result, moments)
    for to, value in zip(results, values, strict=True):
        to.copy_(value.view(to.shape))


def _reference_backward(
    grad, x, depthwise_weight, weights, gate_bias, norm_weight, kept, cu_seqlens, seed, heads, dropout_p, wanted
):
    wide = kept[0].dtype
    gated, gate_product, logits, folded, result, moments = kept
    tokens = x.shape[:-1]
    gated, gate_product, logits = (each.view(*tokens, -1) for each in (gated, gate_product, logits))
    tensors = (each.to(wide) for each in (grad, x, depthwise_weight, *weights, gate_bias, norm_weight))
    grad, x, depthwise_weight, value, gate, _, _, output, gate_bias, norm_weight = tensors
    norm = (result, as_matrix(x), norm_weight, seed, moments, dropout_p, [True] * 4, "reference")
    d_result, d_rows, d_norm_weight, d_norm_bias = residual_norm_backward_op(as_matrix(grad), *norm)
    d_result = d_rows if seed is None else d_result

    convolution = _in_heads(heads, gated, logits)
    convolved = light_conv_reference(*convolution, None, cu_seqlens).flatten(-2)
    d_convolved = _in_heads(heads, (d_result @ output).view(gated.shape))
    gradients = light_conv_backward_reference(*d_convolved, *convolution, None, cu_seqlens)
    d_gated, d_logits = (each.flatten(-2) for each in gradients)
    span = depthwise_conv_reference(gated, depthwise_weight, None, None, cu_seqlens)
    more, d_depthwise, _ = depthwise_conv_backward_reference(
        d_logits @ folded, gated, depthwise_weight, None, cu_seqlens
    )
    d_value, d_gate, *d_biases = glu_backward_reference(d_gated + more, gated, gate_product, gate_bias)
    d_x = d_rows.view(x.shape) + d_value @ value + d_gate @ gate

    d_logits, span, convolved, rows = (as_matrix(each) for each in (d_logits, span, convolved, x))
    vectors = (*d_biases, d_logits.sum(0), d_result.sum(0), d_norm_weight, d_norm_bias, d_depthwise.flatten())
    d_halves = torch.cat([as_matrix(d_value), as_matrix(d_gate)], -1)
    of_weights = (d_halves.T @ rows, d_logits.T @ span, d_result.T @ convolved)
    d_x, *of_weights = (g if want else None for g, want in zip((d_x, *of_weights), wanted, strict=True))
    return d_x, torch.cat(vectors), *of_weights


def _in_heads(heads, *tensors):
    """[…, H·N] as […, H, N]."""
    return [tensor.unflatten(-1, (heads, -1)) for tensor in tensors]


launch_forward = dispatch.Launchers(
    "dynamic_conv_block", {"cpu": _cpu_forward, "reference": _reference_forward}, needs={"cpu": lambda: blas.sgemm()[1]}
)
launch_backward = dispatch.Launchers(
    "dynamic_conv_block",
    {"cpu": _cpu_backward, "reference": _reference_backward},
    needs={"cpu": lambda: blas.sgemm()[1]},
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

_WEIGHTS = ", ".join(f"Tensor {name}_weight" for name in LAYERS)
_BIASES = ", ".join(f"Tensor {name}_bias" for name in LAYERS)
_KEPT_TENSORS = "Tensor gated, Tensor gate_product, Tensor logits, Tensor folded, Tensor result, Tensor moments"

dynamic_conv_block_op = registry.register(
    "dynamic_conv_block",
    f"(Tensor x, Tensor depthwise_weight, {_WEIGHTS}, {_BIASES}, Tensor norm_weight, Tensor norm_bias, "
    "Tensor? cu_seqlens, Tensor? seed, int heads, float eps, float dropout_p, bool keep, str impl)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
    autocast=False,
)
dynamic_conv_block_backward_op = registry.register(
    "dynamic_conv_block_backward",
    f"(Tensor grad, Tensor x, Tensor depthwise_weight, {_WEIGHTS}, Tensor gate_bias, Tensor pointwise_bias, "
    f"Tensor norm_weight, {_KEPT_TENSORS}, Tensor? cu_seqlens, Tensor? seed, int heads, float dropout_p, "
    "bool[4] wanted, str impl) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    autocast=False,
)


def _setup_context(ctx, inputs, output):
    *tensors, cu_seqlens, seed, ctx.heads, _, ctx.dropout_p, ctx.keep, ctx.impl = inputs
    x, depthwise_weight, *layers, norm_weight, _ = tensors
    _, *kept = output
    ctx.mark_non_differentiable(*kept)
    ctx.set_materialize_grads(False)  # or zeros of all that is kept would be made for its gradients
    biases = layers[_LAYERS + 1 : _LAYERS + 3]  # gate's and pointwise's
    ctx.save_for_backward(x, depthwise_weight, *layers[:_LAYERS], *biases, norm_weight, *kept, cu_seqlens, seed)


def _autograd_backward(ctx, grad, *_):
    inputs = 2 + 2 * _LAYERS + 2
    if grad is None:
        return (None,) * (inputs + 7)
    needs = ctx.needs_input_grad
    value, gate, pointwise, kernel, output = needs[2 : 2 + _LAYERS]
    wants_span = pointwise or kernel or needs[2 + _LAYERS + 2]  # or pointwise's bias
    wanted = [needs[0], value or gate, wants_span, output]
    saved = ctx.saved_tensors  # once: checkpoints compute them anew each time
    gradients = dynamic_conv_block_backward_op(grad, *saved, ctx.heads, ctx.dropout_p, wanted, ctx.impl)
    d_x, d_vectors, d_projections, d_pointwise, d_pointwise_bias, d_kernel, d_output = gradients
    x, depthwise_weight, *weights = saved[: 2 + _LAYERS]
    vectors = _split_vectors(d_vectors, depthwise_weight, weights[3], x.shape[-1])
    d_value_bias, d_gate_bias, d_kernel_bias, d_output_bias, d_norm_weight, d_norm_bias, d_depthwise = vectors
    d_weights = (*d_projections.tensor_split(2), d_pointwise, d_kernel, d_output)
    d_biases = (d_value_bias, d_gate_bias, d_pointwise_bias, d_kernel_bias, d_output_bias)
    found = (d_x, d_depthwise, *d_weights, *d_biases, d_norm_weight, d_norm_bias)
    return *(g if want else None for g, want in zip(found, needs, strict=False)), *(None,) * 7


dynamic_conv_block_op.differentiate(_autograd_backward, _setup_context)
