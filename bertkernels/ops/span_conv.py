"""`span_conv`: ConvBERT's span-based dynamic convolution, from the projections to its heads' outputs."""

import torch

from . import checks, dispatch, extension, registry
from .bias_activation import as_matrix
from .depthwise_conv import depthwise_conv_backward_op, depthwise_conv_reference
from .depthwise_conv import launch_forward as launch_depthwise
from .light_conv import forward_into as light_conv_into
from .light_conv import light_conv_backward_op, light_conv_reference
from .linear import launch_forward as launch_linear
from .sequences import token_bounds


def span_conv(
    x: torch.Tensor,
    query: torch.Tensor,
    values: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor | None,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor | None,
    *,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """Span-based dynamic convolution (Jiang et al. 2020, §3.2, eq. 5).

        light_conv(values, span_conv_logits(x, query, …))

    Args:
        values: [B, T, H, D], or packed [total, H, D]. Any strides with a contiguous last dimension.
        the others: as for `span_conv_logits`.

    Returns:
        [B, T, H, D] (or [total, H, D]), contiguous, of `x`'s dtype.

    Raises:
        as `span_conv_logits`.
    """
    inputs = (query, depthwise_weight, pointwise_weight, pointwise_bias, kernel_weight, kernel_bias)
    _check("span_conv", x, *inputs, lengths, cu_seqlens)
    checks.companion("span_conv", "values", values, query.shape, "query's shape", "x", x)
    weights = inputs[1:]
    keep = _wants_gradients(x, query, values, *weights)
    return span_conv_op(x, query, values, *weights, lengths, cu_seqlens, keep, dispatch.requested(impl))[0]


def span_conv_logits(
    x: torch.Tensor,
    query: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor | None,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor | None,
    *,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """The kernels, before their softmax, that each token's span of neighbours and its query generate.

        key = depthwise_conv(x) · pointwiseᵀ + pointwise_bias;   logits = (key ⊙ query) · kernelᵀ + kernel_bias

    Args:
        x: [B, T, C], or packed [total, C]: the block's input. Any strides with a contiguous last dimension.
        query: [B, T, H, D] (or [total, H, D]): shared with the attention heads. Likewise.
        depthwise_weight: [C, S], S the width of the span, any S ≥ 1.
        pointwise_weight: [H·D, C]; pointwise_bias: [H·D] or None.
        kernel_weight: [H·K, H·D], rows head-major and tap-minor; kernel_bias: [H·K] or None.
        lengths: int32 [B], padded form: tokens past a sequence's length act as zeros and come out as zeros.
        cu_seqlens: int32 [B + 1], packed form: sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1] - 1.
        impl: "cpu", "torch", "triton" or "reference"; None takes the best that can run. "cpu" and "torch" are the
            convolutions' own kernels around products of torch's libraries; "triton" is one kernel.

    Returns:
        [B, T, H, K] (or [total, H, K]), contiguous, of `x`'s dtype. Sums are in fp32 (fp64 for fp64). Where a gradient
        will be asked for, key is kept beside it; the span is worked out again in the backward pass.

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, or contents of `lengths`/`cu_seqlens` do not fit. On a
            GPU contents are read only if BERTKERNELS_CHECK_SEQUENCES=1, for that waits for it; otherwise those out of
            range count as clamped: nothing outside the tensors is read or written, but results are undefined for tokens
            that `cu_seqlens` then give to no sequence, or to several.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    weights = (depthwise_weight, pointwise_weight, pointwise_bias, kernel_weight, kernel_bias)
    _check("span_conv_logits", x, query, *weights, lengths, cu_seqlens)
    keep = _wants_gradients(x, query, *weights)
    return span_conv_logits_op(x, query, *weights, lengths, cu_seqlens, keep, dispatch.requested(impl))[0]


def _wants_gradients(*inputs: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs)


def _check(
    op: str,
    x: torch.Tensor,
    query: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor | None,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor | None,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
) -> None:
    """Raises where these do not make the logits of a span-based convolution."""
    checks.tensor(op, "x", x, (2, 3), "[B, T, C] or packed [total, C]")
    checks.sequences(op, "x", x, lengths, cu_seqlens, padded_rank=3)
    checks.tensor(op, "query", query, x.dim() + 1, "[B, T, H, D] or packed [total, H, D]")
    checks.shape(op, "query", query, (*x.shape[:-1], *query.shape[-2:]), "x's tokens with heads and head width")
    heads, width = query.shape[-2:]
    if heads == 0:
        raise ValueError(f"{op}: query must have at least one head, got shape {list(query.shape)}")
    weights = {
        "depthwise_weight": (depthwise_weight, "[C, S]"),
        "pointwise_weight": (pointwise_weight, "[H·D, C]"),
        "kernel_weight": (kernel_weight, "[H·K, H·D]"),
    }
    for name, (weight, letters) in weights.items():
        checks.tensor(op, name, weight, 2, letters)
    span, rows = depthwise_weight.shape[1], kernel_weight.shape[0]
    if span == 0:
        raise ValueError(f"{op}: depthwise_weight must have S ≥ 1 taps, got shape {list(depthwise_weight.shape)}")
    if rows == 0 or rows % heads:
        raise ValueError(f"{op}: kernel_weight must have H·K rows, K ≥ 1, got {rows} rows for {heads} heads")
    shapes = ((x.shape[-1], span), (heads * width, x.shape[-1]), (rows, heads * width))
    for (name, (weight, letters)), shape in zip(weights.items(), shapes, strict=True):
        checks.shape(op, name, weight, shape, letters)
    biases = {"pointwise_bias": (pointwise_bias, heads * width, "[H·D]"), "kernel_bias": (kernel_bias, rows, "[H·K]")}
    for name, (bias, size, letters) in biases.items():
        if bias is not None:
            checks.tensor(op, name, bias, 1, letters)
            checks.shape(op, name, bias, (size,), letters)
    _check_alike(op, x, query, depthwise_weight, pointwise_weight, pointwise_bias, kernel_weight, kernel_bias)


_OTHERS = ("query", "depthwise_weight", "pointwise_weight", "pointwise_bias", "kernel_weight", "kernel_bias", "values")


def _check_alike(op: str, x: torch.Tensor, *others: torch.Tensor | None) -> None:
    for name, tensor in zip(_OTHERS, others, strict=False):
        if tensor is not None:
            checks.alike(op, name, tensor, "x", x)


# -- reference ---------------------------------------------------------------------------------------------------------


def span_conv_reference(x, query, values, *weights_and_sequences: torch.Tensor | None) -> torch.Tensor:
    """The specification of `span_conv`, in plain torch operations; differentiable; in fp32 or fp64 throughout."""
    logits = span_conv_logits_reference(*_widened(x, query), *weights_and_sequences)
    return light_conv_reference(*_widened(values), logits, *weights_and_sequences[-2:]).to(x.dtype)


def span_conv_logits_reference(
    x: torch.Tensor,
    query: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor | None,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor | None,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
) -> torch.Tensor:
    """The specification of `span_conv_logits`, likewise."""
    real = _real(x, lengths, cu_seqlens)[..., None]  # [B, T, 1]
    wide_x, wide_query, depthwise_weight, pointwise_weight, pointwise_bias, kernel_weight, kernel_bias = _widened(
        x, query, depthwise_weight, pointwise_weight, pointwise_bias, kernel_weight, kernel_bias
    )
    spans = depthwise_conv_reference(wide_x, depthwise_weight, None, lengths, cu_seqlens)  # [B, T, C]
    product = torch.nn.functional.linear(spans, pointwise_weight, pointwise_bias)  # [B, T, H·D]
    keys = torch.where(real, product * wide_query.flatten(-2), 0)  # [B, T, H·D]
    logits = torch.nn.functional.linear(keys, kernel_weight, kernel_bias)  # [B, T, H·K]
    return torch.where(real, logits, 0).unflatten(-1, (query.shape[-2], -1)).to(x.dtype)


def _widened(*tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """In the dtype of sums."""
    return [x if x is None else x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def _real(x: torch.Tensor, lengths: torch.Tensor | None, cu_seqlens: torch.Tensor | None) -> torch.Tensor:
    """Whether each token [B, T] (or [total]) is one of its sequence's, not padding."""
    batches, tokens = (1, x.shape[0]) if cu_seqlens is not None else x.shape[:2]
    position, _, end = token_bounds(batches, tokens, lengths, cu_seqlens, x.device)
    return (position < end).view(x.shape[:-1])


# -- the registered ops ------------------------------------------------------------------------------------------------
# With `keep` the product of span and pointwise weight [B, T, H·D], bias included, comes beside the result (empty
# without): the backward pass starts from it, or computes it anew where it was not kept.


def _forward(x, query, values, *rest):
    return _launch_forward(x, query, values, *rest)


def _forward_logits(x, query, *rest):
    return _launch_forward(x, query, None, *rest)[1:]


def _launch_forward(x, query, values, *rest):
    *weights, lengths, cu_seqlens, keep, impl = rest
    _check_alike("span_conv", x, query, *weights, values)  # under autocast dtypes are only settled here
    launch = launch_forward.functions[_resolve(launch_forward, x, query, impl)]
    out, logits, product = launch(x, query, values, *weights, lengths, cu_seqlens, keep)
    return out, logits, product if keep else x.new_empty(0)


def _resolve(launchers: dispatch.Launchers, x: torch.Tensor, query: torch.Tensor, impl: str) -> str:
    """The implementation's name. Sums over no channels, and of no tokens, are not what kernels are made for."""
    name = launchers.resolve(x.device.type, impl)
    return name if x.numel() and query.numel() else "reference"


def _forward_fake(x, query, values, *rest):
    return query.new_empty(query.shape), *_forward_logits_fake(x, query, *rest)


def _forward_logits_fake(x, query, depthwise_weight, pointwise_weight, pointwise_bias, kernel_weight, *rest):
    *_, keep, impl = rest
    logits = x.new_empty((*query.shape[:-1], kernel_weight.shape[0] // query.shape[-2]))
    return logits, x.new_empty((*x.shape[:-1], pointwise_weight.shape[0]) if keep else 0)


def _backward(grad, x, query, *rest):
    *weights, product, lengths, cu_seqlens, wanted, impl = rest
    name = _resolve(launch_backward, x, query, impl)
    inputs = (grad.to(x.dtype), x, query, *weights)
    if name == "reference":
        inputs, product = _widened(*inputs), product.new_empty(0)
    grad, x, query, depthwise_weight, pointwise_weight, pointwise_bias, kernel_weight = inputs
    convolution = _CONVOLUTION.get(name, name)
    wants_x, _, wants_depthwise, wants_pointwise, *wants_others = wanted

    spans = None
    if wants_pointwise or not product.numel():
        spans = _depthwise(x, depthwise_weight, lengths, cu_seqlens, convolution)  # [B, T, C]
        if not product.numel():
            product = _linear(spans, pointwise_weight, pointwise_bias)  # [M, H·D]
    d_query, d_product, *d_others = launch_backward.functions[name](
        grad, product, query, kernel_weight, lengths, wants_others
    )  # d_product [M, H·D]
    d_pointwise = d_x = d_depthwise = x.new_empty(0)
    if wants_pointwise:
        d_pointwise = _linear(d_product.T, as_matrix(spans).T)
    if wants_x or wants_depthwise:
        spans = None  # its memory can hold its gradient
        d_spans = _linear(d_product, pointwise_weight.T).view(x.shape)
        d_x, d_depthwise, _ = depthwise_conv_backward_op(
            d_spans, x, depthwise_weight, lengths, cu_seqlens, False, [wants_x, wants_depthwise, False], convolution
        )
    gradients = (d_x, d_query, d_depthwise, d_pointwise, *d_others)
    dtype = rest[0].dtype
    return tuple(
        g.to(dtype) if want else g.new_empty(0, dtype=dtype) for g, want in zip(gradients, wanted, strict=True)
    )


def _backward_fake(
    grad,
    x,
    query,
    depthwise_weight,
    pointwise_weight,
    pointwise_bias,
    kernel_weight,
    product,
    lengths,
    cu_seqlens,
    wanted,
    impl,
):
    """Gradients of all inputs in their order, kernel_bias last; those that are not wanted are empty."""
    shapes = (
        x.shape,
        query.shape,
        depthwise_weight.shape,
        pointwise_weight.shape,
        pointwise_weight.shape[:1],
        kernel_weight.shape,
        kernel_weight.shape[:1],
    )
    return tuple(x.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True))


# -- launchers: one an implementation ----------------------------------------------------------------------------------
# forward:  (x, query, values or None, weights and biases, lengths, cu_seqlens, keep) -> out, logits, product
# backward: (d_logits, product, query, kernel_weight, lengths, which of the last three are wanted)
#           -> d_query, d_product [M, H·D], d_pointwise_bias, d_kernel_weight, d_kernel_bias

# The convolutions' implementation where it is not this op's: "" takes the best.
_CONVOLUTION = {"torch": ""}


def _depthwise(x, weight, lengths, cu_seqlens, convolution):
    spans = extension.empty_like(x)  # [B, T, C]
    launch = launch_depthwise.select(x.device.type, convolution)
    if spans.numel():
        launch(spans, x, weight, None, lengths, cu_seqlens, False)
    return spans


def _linear(x, weight, bias=None, multiplier=None):
    """Of x seen as a matrix, which may lie by columns: [M, O]."""
    rows = x if x.dim() == 2 else as_matrix(x)
    return launch_linear.select(x.device.type, "torch")(rows, weight, bias, multiplier, None)


def _heads_joined(query: torch.Tensor) -> torch.Tensor:
    """[B, T, H, D] → [M, H·D]."""
    return as_matrix(query.flatten(-2))


def _padding(tokens: tuple[int, ...], lengths: torch.Tensor) -> torch.Tensor:
    """Which of the tokens [B, T] are padding, as a column [M, 1]."""
    return (torch.arange(tokens[1], device=lengths.device) >= lengths[:, None]).view(-1, 1)


def _composed_forward(convolution):
    def forward(
        x,
        query,
        values,
        depthwise_weight,
        pointwise_weight,
        pointwise_bias,
        kernel_weight,
        kernel_bias,
        lengths,
        cu_seqlens,
        keep,
    ):
        spans = _depthwise(x, depthwise_weight, lengths, cu_seqlens, convolution)  # [B, T, C]
        multiplier = _heads_joined(query)  # [M, H·D]
        product = _linear(spans, pointwise_weight, pointwise_bias, None if keep else multiplier)  # [M, H·D]
        keys = product * multiplier if keep else product
        logits = _linear(keys, kernel_weight, kernel_bias)  # [M, H·K]
        if lengths is not None:
            logits.masked_fill_(_padding(x.shape, lengths), 0)
        logits = logits.view(*query.shape[:-1], -1)  # [B, T, H, K]
        out = None
        if values is not None:
            out = extension.empty_like(values)
            light_conv_into(out, values, logits, lengths, cu_seqlens, True, False, convolution)
        return out, logits, product.view(*x.shape[:-1], pointwise_weight.shape[0])

    return forward


def _composed_backward(d_logits, product, query, kernel_weight, lengths, wanted):
    wants_pointwise_bias, wants_kernel, wants_kernel_bias = wanted
    empty = product.new_empty(0)
    product, multiplier, d_logits = as_matrix(product), _heads_joined(query), as_matrix(d_logits.flatten(-2))
    padding = None if lengths is None else _padding(query.shape, lengths)  # [M, 1]
    if padding is not None:
        d_logits = d_logits.masked_fill(padding, 0)
    d_keys = _linear(d_logits, kernel_weight.T)  # [M, H·D]
    d_query = d_keys * product
    d_product = d_keys.mul_(multiplier)
    d_kernel = empty
    if padding is not None:  # zeros times what stands there may be no number
        d_query.masked_fill_(padding, 0)
        d_product.masked_fill_(padding, 0)
    if wants_kernel:
        keys = product * multiplier
        if padding is not None:
            keys.masked_fill_(padding, 0)
        d_kernel = _linear(d_logits.T, keys.T)
    d_pointwise_bias = d_product.sum(0) if wants_pointwise_bias else empty
    d_kernel_bias = d_logits.sum(0) if wants_kernel_bias else empty
    return d_query.view(query.shape), d_product, d_pointwise_bias, d_kernel, d_kernel_bias


def _rows(x: torch.Tensor) -> torch.Tensor:
    """`x` with a contiguous last dimension."""
    return x if x.stride()[-1] == 1 or x.shape[-1] == 1 else x.contiguous()


def _triton_forward(x, query, values, *rest):
    from bertkernels.kernels import span_conv as kernel

    *weights, lengths, cu_seqlens, keep = rest
    checks.sequence_values("span_conv", x.shape[-2], lengths, cu_seqlens)
    out = None if values is None else values.new_empty(values.shape)
    logits, product = _forward_logits_fake(x, query, *weights, keep, "triton")
    inputs = (tensor if tensor is None else _rows(tensor) for tensor in (x, query, values, *weights))
    kernel.forward(out, logits, product if keep else None, *inputs, lengths, cu_seqlens)
    return out, logits, product


def _triton_backward(d_logits, product, query, kernel_weight, lengths, wanted):
    from bertkernels.kernels import span_conv as kernel

    rows, columns = kernel_weight.shape
    d_query, d_product = query.new_empty(query.shape), query.new_empty(product.numel() // columns, columns)
    shapes = ((columns,), (rows, columns), (rows,))
    sums = [query.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True)]
    d_pointwise_bias, d_kernel, d_kernel_bias = (x if want else None for x, want in zip(sums, wanted, strict=True))
    kernel.backward(
        d_query,
        d_product,
        d_kernel,
        d_pointwise_bias,
        d_kernel_bias,
        d_logits.contiguous(),
        product,
        _rows(query),
        _rows(kernel_weight),
        lengths,
    )
    return d_query, d_product, *sums


def _reference_forward(x, query, values, *rest):
    *weights, lengths, cu_seqlens, keep = rest
    checks.sequence_values("span_conv", x.shape[-2], lengths, cu_seqlens)
    logits = span_conv_logits_reference(x, query, *weights, lengths, cu_seqlens)
    out = product = None
    if values is not None:
        out = span_conv_reference(x, query, values, *weights, lengths, cu_seqlens)
    if keep:
        wide_x, depthwise_weight, *pointwise = _widened(x, *weights[:3])
        spans = depthwise_conv_reference(wide_x, depthwise_weight, None, lengths, cu_seqlens)
        product = torch.nn.functional.linear(spans, *pointwise).to(x.dtype)
    return out, logits, product


# One kernel moves a third to two fifths of the bytes that the parts one by one do: where there are both, it goes first.
_PREFERENCE = {**dispatch.PREFERENCE, "cuda": ("triton", "torch", "reference")}

launch_forward = dispatch.Launchers(
    "span_conv",
    {
        "cpu": _composed_forward("cpu"),
        "torch": _composed_forward(_CONVOLUTION["torch"]),
        "triton": _triton_forward,
        "reference": _reference_forward,
    },
    compiled_as="depthwise_conv",
    preference=_PREFERENCE,
)
launch_backward = dispatch.Launchers(
    "span_conv",
    {
        "cpu": _composed_backward,
        "torch": _composed_backward,
        "triton": _triton_backward,
        "reference": _composed_backward,
    },
    compiled_as="depthwise_conv",
    preference=_PREFERENCE,
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

_WEIGHTS = "Tensor depthwise_weight, Tensor pointwise_weight, Tensor? pointwise_bias, Tensor kernel_weight, "
_OPTIONS = "Tensor? kernel_bias, Tensor? lengths, Tensor? cu_seqlens, bool keep, str impl"

span_conv_op = registry.register(
    "span_conv",
    f"(Tensor x, Tensor query, Tensor values, {_WEIGHTS}{_OPTIONS}) -> (Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
span_conv_logits_op = registry.register(
    "span_conv_logits",
    f"(Tensor x, Tensor query, {_WEIGHTS}{_OPTIONS}) -> (Tensor, Tensor)",
    _forward_logits,
    _forward_logits_fake,
)
span_conv_logits_backward_op = registry.register(
    "span_conv_logits_backward",
    f"(Tensor grad, Tensor x, Tensor query, {_WEIGHTS}Tensor product, Tensor? lengths, Tensor? cu_seqlens, "
    "bool[7] wanted, str impl) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup_logits_context(ctx, inputs, output):
    *tensors, _, lengths, cu_seqlens, _, ctx.impl = inputs  # all but the last bias
    product = output[1]
    ctx.mark_non_differentiable(product)
    ctx.set_materialize_grads(False)  # or zeros of the product's size would be made for its gradient
    ctx.save_for_backward(*tensors, product, lengths, cu_seqlens)


def _autograd_logits_backward(ctx, grad, _):
    wanted = list(ctx.needs_input_grad[:7])
    return *_logits_gradients(grad, ctx.saved_tensors, wanted, ctx.impl), None, None, None, None


def _logits_gradients(grad, saved, wanted, impl):
    if grad is None or not any(wanted):
        return (None,) * len(wanted)
    gradients = span_conv_logits_backward_op(grad, *saved, wanted, impl)
    return tuple(gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))


def _setup_context(ctx, inputs, output):
    x, query, values, *weights, _, lengths, cu_seqlens, _, ctx.impl = inputs
    _, logits, product = output
    ctx.mark_non_differentiable(logits, product)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(values, logits, x, query, *weights, product, lengths, cu_seqlens)


def _autograd_backward(ctx, grad, *_):
    if grad is None:
        return (None,) * 12
    values, logits, *saved = ctx.saved_tensors
    convolution = _CONVOLUTION.get(ctx.impl, ctx.impl)
    d_values, d_logits = light_conv_backward_op(grad, values, logits, *saved[-2:], True, False, convolution)
    wants_x, wants_query, wants_values, *wants_weights = ctx.needs_input_grad[:8]
    d_x, d_query, *d_weights = _logits_gradients(d_logits, saved, [wants_x, wants_query, *wants_weights], ctx.impl)
    return d_x, d_query, d_values if wants_values else None, *d_weights, None, None, None, None


span_conv_logits_op.differentiate(_autograd_logits_backward, _setup_logits_context)
span_conv_op.differentiate(_autograd_backward, _setup_context)
