"""`mixed_context`: mixed attention from a block's input to what its output layer takes, with gradients."""

import torch

from . import checks, dispatch, registry
from .attention import backward_into as differentiate_attention_into
from .attention import draw_seed, lse_like
from .attention import forward_into as attend_into
from .attention import rows as last_dense
from .bias_activation import as_matrix, differentiate_into
from .depthwise_conv import depthwise_conv_backward_op
from .depthwise_conv import launch_forward as launch_depthwise
from .light_conv import forward_into as convolve_into
from .light_conv import launch_backward as launch_light_conv_backward
from .linear import launch_forward as launch_linear
from .linear import linear_reference, onednn_multiplies
from .mixed_attention import mixed_attention_reference
from .span_conv import span_conv_logits_reference

LAYERS = ("query", "key", "value", "conv_value", "pointwise", "kernel")
_PROJECTIONS = 4  # of them: those of the input itself


def mixed_context(
    x: torch.Tensor,
    depthwise_weight: torch.Tensor,
    weights: list[torch.Tensor],
    biases: list[torch.Tensor | None],
    heads: int,
    *,
    key_bias: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    cu_seqlens: torch.Tensor | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """Mixed attention (ConvBERT, Jiang et al. 2020, §3.2-3.3) before its output layer.

        query, key, value, conv_value = the layers of these names, applied to x
        logits  = span_conv_logits(x, query, depthwise_weight, pointwise, kernel)
        context = mixed_attention(query, key, value, conv_value, logits)

    The same as these ops one by one. As one op it needs no sums of gradients beside it: what query, key, value, the
    convolution's values and the span pass back to x, and attention and span to query, is added up in place, by the
    products themselves where they are products; the projections' gradients are one product each.

    Args:
        x: [B, T, C], or packed [total, C], with a contiguous last dimension.
        depthwise_weight: [C, S], S the width of the span.
        weights, biases: of the six `LAYERS` in their order, as `torch.nn.Linear` has them: the first five C → H·D,
            kernel H·D → H·K; biases may be None. All of x's dtype and device.
        heads: H, heads of each kind.
        key_bias: [B, T], padded form only: added to all scores of a key, such as -inf at padding; no gradient.
        dropout_p: on the attention probabilities.
        cu_seqlens: int32 [B + 1], packed form: sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1] - 1.
        impl: "cpu" or "reference"; None takes the best that can run.

    Returns:
        [B, T, 2·H·D] (or [total, 2·H·D]), contiguous, of x's dtype: attention heads first. Sums are in fp32 (fp64 for
        fp64). For the backward pass projections, spans, keys and logits are kept beside it.

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, or contents of `cu_seqlens` do not fit.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    op = "mixed_context"
    checks.tensor(op, "x", x, (2, 3), "[B, T, C] or packed [total, C]")
    checks.sequences(op, "x", x, None, cu_seqlens, padded_rank=3)
    _check_layers(op, x, depthwise_weight, weights, biases, heads)
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"{op}: dropout_p must be from 0 to 1, got {dropout_p}")
    if key_bias is not None:
        if cu_seqlens is not None:
            raise ValueError(f"{op}: key_bias goes with the padded form; packed sequences need none")
        checks.tensor(op, "key_bias", key_bias, 2, "[B, T]")
        checks.shape(op, "key_bias", key_bias, tuple(x.shape[:2]), "[B, T]")
        checks.alike(op, "key_bias", key_bias, "x", x)
    options = (key_bias, cu_seqlens, draw_seed(x, dropout_p), dropout_p, heads, dispatch.requested(impl))
    return mixed_context_op(x, depthwise_weight, *weights, *biases, *options)[0]


def _check_layers(op, x, depthwise_weight, weights, biases, heads) -> None:
    if len(weights) != len(LAYERS) or len(biases) != len(LAYERS):
        raise ValueError(f"{op}: weights and biases must be those of {', '.join(LAYERS)}")
    channels = x.shape[-1]
    checks.tensor(op, "depthwise_weight", depthwise_weight, 2, "[C, S]")
    checks.alike(op, "depthwise_weight", depthwise_weight, "x", x)
    checks.shape(op, "depthwise_weight", depthwise_weight, (channels, depthwise_weight.shape[1]), "[C, S]")
    for name, weight in zip(LAYERS, weights, strict=True):
        checks.tensor(op, f"{name}'s weight", weight, 2, "[O, I]")
    width, rows = weights[0].shape[0], weights[-1].shape[0]
    if heads < 1 or width % heads or width == 0 or rows % heads or rows == 0 or depthwise_weight.shape[1] == 0:
        raise ValueError(
            f"{op}: query's {width} channels must be H·D, kernel's {rows} rows H·K with H = {heads} heads, and "
            f"the span's {depthwise_weight.shape[1]} taps at least 1"
        )
    shapes = (*((width, channels),) * 5, (rows, width))
    for name, weight, bias, shape in zip(LAYERS, weights, biases, shapes, strict=True):
        checks.shape(op, f"{name}'s weight", weight, shape, "[O, I]")
        checks.alike(op, f"{name}'s weight", weight, "x", x)
        if bias is not None:
            checks.vector(op, f"{name}'s bias", bias, shape[0], x)


# -- reference ---------------------------------------------------------------------------------------------------------


def mixed_context_reference(
    x: torch.Tensor,
    depthwise_weight: torch.Tensor,
    weights: list[torch.Tensor],
    biases: list[torch.Tensor | None],
    heads: int,
    key_bias: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    seed: torch.Tensor | None = None,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """The specification of `mixed_context`, in plain torch operations; differentiable; in fp32 or fp64 throughout."""
    wide_x, wide_depthwise, *wide = _widened(x, depthwise_weight, *weights, *biases)
    layers = list(zip(wide[: len(LAYERS)], wide[len(LAYERS) :], strict=True))
    projected = [linear_reference(wide_x, *layer).unflatten(-1, (heads, -1)) for layer in layers[:_PROJECTIONS]]
    pointwise, kernel = layers[_PROJECTIONS:]
    logits = span_conv_logits_reference(wide_x, projected[0], wide_depthwise, *pointwise, *kernel, None, cu_seqlens)
    (bias,) = _widened(key_bias)
    return mixed_attention_reference(*projected, logits, bias, None, cu_seqlens, seed, dropout_p).to(x.dtype)


def _widened(*tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """In the dtype of sums."""
    return [x if x is None else x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


# -- the registered op -------------------------------------------------------------------------------------------------
# (x, depthwise_weight, the layers' weights, their biases, key_bias, cu_seqlens, seed, dropout_p, heads, impl)
#   -> out, query, key, value, conv_value […, H, D], spans […, C], keys […, H·D] before the query multiplies them,
#      logits […, H, K], lse
# All but `out` are there for the backward pass.

_LAYERS, _KEPT = len(LAYERS), 9


def _forward(x, depthwise_weight, *rest):
    layers, (key_bias, cu_seqlens, seed, dropout_p, heads, impl) = rest[: 2 * _LAYERS], rest[2 * _LAYERS :]
    for tensor in (depthwise_weight, *layers):  # under autocast dtypes are only settled here: fp64 tensors keep theirs
        if tensor is not None:
            checks.alike("mixed_context", "a layer", tensor, "x", x)
    impl, dtype = _resolve(x, impl), x.dtype
    if impl == "reference":
        x, depthwise_weight, key_bias, *layers = _widened(x, depthwise_weight, key_bias, *layers)
    weights, biases = layers[:_LAYERS], layers[_LAYERS:]
    tokens, rows, width = x.shape[:-1], as_matrix(x), weights[0].shape[0]

    layers = zip(weights[:_PROJECTIONS], biases, strict=False)
    projected = [_linear(rows, *layer).view(*tokens, heads, width // heads) for layer in layers]
    query, key, value, conv_value = projected
    spans = x.new_empty(x.shape)
    launch_depthwise.select(x.device.type, impl)(spans, x, depthwise_weight, None, None, cu_seqlens, False)
    keys = _linear(as_matrix(spans), weights[4], biases[4])  # [M, H·D]
    logits = _linear(keys * query.view(keys.shape), weights[5], biases[5])  # [M, H·K]
    logits = logits.view(*tokens, heads, weights[5].shape[0] // heads)

    out, lse = x.new_empty(*tokens, 2, heads, width // heads), lse_like(query)
    attended, convolved = out.unbind(-3)
    attend_into(attended, lse, query, key, value, key_bias, None, cu_seqlens, seed, dropout_p, None, impl)
    convolve_into(convolved, conv_value, logits, None, cu_seqlens, True, False, impl)
    results = out.view(*tokens, 2 * width), *projected, spans, keys.view(*tokens, width), logits
    return *(result.to(dtype) for result in results), lse


def _resolve(x: torch.Tensor, impl: str) -> str:
    """The implementation's name. Sums over no channels, and of no tokens, are not what kernels are made for."""
    name = launch.resolve(x.device.type, impl)
    return name if x.numel() else "reference"


def _forward_fake(x, depthwise_weight, *rest):
    weights, heads = rest[:_LAYERS], rest[-2]
    tokens, width = x.shape[:-1], weights[0].shape[0]
    projected = [x.new_empty((*tokens, heads, width // heads)) for _ in range(_PROJECTIONS)]
    return (
        x.new_empty((*tokens, 2 * width)),
        *projected,
        x.new_empty(x.shape),
        x.new_empty((*tokens, width)),
        x.new_empty((*tokens, heads, weights[5].shape[0] // heads)),
        lse_like(projected[0]),
    )


def _backward(grad, x, depthwise_weight, *rest):
    weights, kept, options = rest[:_LAYERS], rest[_LAYERS : _LAYERS + _KEPT], rest[_LAYERS + _KEPT :]
    key_bias, cu_seqlens, seed, dropout_p, heads, wanted, impl = options
    impl, dtype = _resolve(x, impl), x.dtype
    grad = grad.to(dtype)
    if impl == "reference":
        grad, x, depthwise_weight, key_bias, *weights = _widened(grad, x, depthwise_weight, key_bias, *weights)
        kept = _widened(*kept)
    wants_x, wants_depthwise, wants_projections, wants_their_biases, *wants_span = wanted
    wants_pointwise, wants_pointwise_bias, wants_kernel, wants_kernel_bias = wants_span
    out, query, key, value, conv_value, spans, keys, logits, lse = kept
    tokens, rows, width = x.shape[:-1], as_matrix(x), keys.shape[-1]

    d_projected = x.new_empty(*tokens, _PROJECTIONS, *query.shape[-2:])  # one row a token, for one product by weights
    d_query, d_key, d_value, d_conv_value = d_projected.unbind(-3)
    halves = (2, *query.shape[-2:])
    d_attended, d_convolved = last_dense(grad).unflatten(-1, halves).unbind(-3)
    attended = out.unflatten(-1, halves).select(-3, 0)
    sequences = (None, cu_seqlens)
    differentiate_attention_into(
        (d_query, d_key, d_value),
        *(d_attended, query, key, value, attended, lse, key_bias, *sequences, seed, dropout_p, None, impl),
    )
    d_logits = torch.empty_like(logits)
    differentiate_light_conv = launch_light_conv_backward.select(x.device.type, impl)
    differentiate_light_conv(d_convolved, d_conv_value, d_logits, conv_value, logits, *sequences, True, False)

    d_logits = as_matrix(d_logits.flatten(-2))  # [M, H·K]
    d_keys = _linear(d_logits, weights[5].T)  # [M, H·D], as the query has multiplied them
    keys, multiplier = as_matrix(keys), query.view(d_keys.shape)
    d_query.addcmul_(d_keys.view(query.shape), keys.view(query.shape))
    d_kernel = _linear(d_logits.T, (keys * multiplier).T) if wants_kernel else x.new_empty(0)
    d_keys *= multiplier
    d_pointwise = _linear(d_keys.T, as_matrix(spans).T) if wants_pointwise else x.new_empty(0)
    d_pointwise_bias = _column_sums(d_keys, wants_pointwise_bias, impl)
    d_kernel_bias = _column_sums(d_logits, wants_kernel_bias, impl)
    d_x, d_depthwise = x.new_empty(0), x.new_empty(0)
    if wants_x or wants_depthwise:
        d_spans = _linear(d_keys, weights[4].T).view(x.shape)
        d_x, d_depthwise, _ = depthwise_conv_backward_op(
            d_spans, x, depthwise_weight, *sequences, False, [wants_x, wants_depthwise, False], impl
        )

    d_projected = d_projected.view(-1, _PROJECTIONS * width)  # [M, 4·H·D]
    if wants_x:
        _add_product(as_matrix(d_x), d_projected, torch.cat(weights[:_PROJECTIONS]))
    d_projections = _linear(d_projected.T, rows.T) if wants_projections else x.new_empty(0)
    d_their_biases = _column_sums(d_projected, wants_their_biases, impl)
    span = (d_pointwise, d_pointwise_bias, d_kernel, d_kernel_bias)
    return tuple(g.to(dtype) for g in (d_x, d_depthwise, d_projections, d_their_biases, *span))


def _backward_fake(grad, x, depthwise_weight, *rest):
    """Gradients of x, depthwise_weight, the projections' weights [4·H·D, C] and biases [4·H·D], weight and bias of
    pointwise and of kernel; those that are not wanted are empty."""
    weights, wanted = rest[:_LAYERS], rest[-2]
    width, channels = weights[0].shape
    shapes = (x.shape, depthwise_weight.shape, (_PROJECTIONS * width, channels), (_PROJECTIONS * width,))
    shapes += tuple(shape for weight in weights[_PROJECTIONS:] for shape in (weight.shape, weight.shape[:1]))
    return tuple(x.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True))


def _linear(x, weight, bias=None):
    """[M, I] by [O, I], either of which may lie by columns."""
    return launch_linear.select(x.device.type, "torch")(x, weight, bias, None, None)


def _add_product(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> None:
    """out [M, C] += x [M, O] · weight [O, C]"""
    if onednn_multiplies(x.dtype):
        out += _linear(x, weight.T)
    else:
        out.addmm_(x, weight)


def _column_sums(x: torch.Tensor, wanted: bool, impl: str) -> torch.Tensor:
    """Those of x [M, O], or nothing."""
    sums = x.new_empty(x.shape[1] if wanted else 0)
    if not wanted:
        return sums
    differentiate_into(x.new_empty(0), sums, x, x, None, None, impl)
    return sums


launch = dispatch.Launchers("mixed_context", {"cpu": _forward, "reference": _forward}, compiled_as="light_conv")


# -- torch ops and autograd --------------------------------------------------------------------------------------------

_WEIGHTS = ", ".join(f"Tensor {name}_weight" for name in LAYERS)
_BIASES = ", ".join(f"Tensor? {name}_bias" for name in LAYERS)
_OPTIONS = "Tensor? score_bias, Tensor? cu_seqlens, Tensor? seed, float dropout_p, int heads"

mixed_context_op = registry.register(
    "mixed_context",
    f"(Tensor x, Tensor depthwise_weight, {_WEIGHTS}, {_BIASES}, {_OPTIONS}, str impl)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
mixed_context_backward_op = registry.register(
    "mixed_context_backward",
    f"(Tensor grad, Tensor x, Tensor depthwise_weight, {_WEIGHTS}, Tensor out, Tensor query, Tensor key, "
    f"Tensor value, Tensor conv_value, Tensor spans, Tensor keys, Tensor logits, Tensor lse, {_OPTIONS}, "
    "bool[8] wanted, str impl)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    autocast=False,
)


def _setup_context(ctx, inputs, output):
    *tensors, ctx.dropout_p, ctx.heads, ctx.impl = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or zeros of all that is kept would be made for its gradients
    inputs, options = tensors[: 2 + _LAYERS], tensors[2 + 2 * _LAYERS :]
    ctx.save_for_backward(*inputs, *output, *options)


def _autograd_backward(ctx, grad, *_):
    inputs = 2 + 2 * _LAYERS
    if grad is None:
        return (None,) * (inputs + 6)
    needs = ctx.needs_input_grad
    weights, biases = needs[2 : 2 + _LAYERS], needs[2 + _LAYERS : inputs]
    wanted = [*needs[:2], any(weights[:_PROJECTIONS]), any(biases[:_PROJECTIONS])]
    wanted += [weights[4], biases[4], weights[5], biases[5]]
    gradients = mixed_context_backward_op(grad, *ctx.saved_tensors, ctx.dropout_p, ctx.heads, wanted, ctx.impl)
    d_x, d_depthwise, d_projections, d_their_biases, d_pointwise, d_pointwise_bias, d_kernel, d_kernel_bias = gradients
    d_weights = (*d_projections.tensor_split(_PROJECTIONS), d_pointwise, d_kernel)
    d_biases = (*d_their_biases.tensor_split(_PROJECTIONS), d_pointwise_bias, d_kernel_bias)
    found = (d_x, d_depthwise, *d_weights, *d_biases)
    return *(g if want else None for g, want in zip(found, needs, strict=False)), *(None,) * 6


mixed_context_op.differentiate(_autograd_backward, _setup_context)
