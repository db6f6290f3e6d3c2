"""`light_conv`: softmax over taps, then a convolution with one kernel a token and head."""

import torch

from . import checks, dispatch, extension, registry
from .sequences import dense, left_context, token_bounds


def light_conv(
    values: torch.Tensor,
    logits: torch.Tensor,
    *,
    softmax: bool = True,
    causal: bool = False,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """Convolves each head of `values` with a kernel of its own at every token.

        out[b, t, h, :] = Σ_k softmax(logits[b, t, h, :])[k] · values[b, t + k - left, h, :]

    with left = (K - 1) // 2, or K - 1 if causal; tokens outside the sequence count as zeros. This is the dynamic
    convolution of Wu et al. 2019 ("Pay Less Attention with Lightweight and Dynamic Convolutions", eq. 3) in the
    symmetric form that ConvBERT (Jiang et al. 2020, §3.2) uses.

    Args:
        values: [B, T, H, D], or packed [total, H, D]. Any strides with a contiguous last dimension.
        logits: [B, T, H, K], or packed [total, H, K], of the same dtype and device; any K ≥ 1.
        softmax: False takes `logits` as the weights themselves.
        causal: the window ends at its own token instead of being centred on it.
        lengths: int32 [B], padded form: tokens past a sequence's length act as zeros and come out as zeros.
        cu_seqlens: int32 [B + 1], packed form: sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1] - 1.
        impl: "cpu", "cuda", "triton" or "reference"; None takes the best that can run.

    Returns:
        [B, T, H, D] (or [total, H, D]), contiguous, of `values`' dtype. Sums and softmax are in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, or contents of `lengths`/`cu_seqlens` do not fit. On a
            GPU contents are read only if BERTKERNELS_CHECK_SEQUENCES=1, for that waits for it; otherwise those out of
            range count as clamped: nothing outside the tensors is read or written, but results are undefined for tokens
            that `cu_seqlens` then give to no sequence, or to several.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    check("light_conv", values, logits, lengths, cu_seqlens)
    return light_conv_op(values, logits, lengths, cu_seqlens, softmax, causal, dispatch.requested(impl))


def check(
    op: str,
    values: torch.Tensor,
    logits: torch.Tensor,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
) -> None:
    """Raises where values, logits and sequences do not make a light convolution."""
    checks.tensor(op, "values", values, (3, 4), "[B, T, H, D] or packed [total, H, D]")
    checks.tensor(op, "logits", logits, values.dim(), "[B, T, H, K] or packed [total, H, K]")
    checks.sequences(op, "values", values, lengths, cu_seqlens, padded_rank=4)
    taps = logits.shape[-1]
    if taps == 0:
        raise ValueError(f"{op}: logits must have at least one tap (K ≥ 1), got shape {list(logits.shape)}")
    checks.shape(op, "logits", logits, (*values.shape[:-1], taps), "values' shape with K for D")
    checks.alike(op, "logits", logits, "values", values)


# -- reference ---------------------------------------------------------------------------------------------------------


def light_conv_reference(
    values: torch.Tensor,
    logits: torch.Tensor,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    softmax: bool = True,
    causal: bool = False,
) -> torch.Tensor:
    """The specification of `light_conv`, in plain torch operations; differentiable; sums in fp32 or fp64."""
    weights, shifted, _ = _windows(values, logits, lengths, cu_seqlens, softmax, causal)
    out = sum(weights[..., k, None] * shifted[k] for k in range(len(shifted)))  # [N, H, D]
    return out.to(values.dtype).reshape(values.shape)


def light_conv_backward_reference(
    grad: torch.Tensor,
    values: torch.Tensor,
    logits: torch.Tensor,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    softmax: bool = True,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `light_conv` with respect to values and logits, derived by hand."""
    weights, shifted, inside = _windows(values, logits, lengths, cu_seqlens, softmax, causal)
    tokens, taps = weights.shape[0], weights.shape[-1]
    left = left_context(taps, causal)
    grad = grad.reshape(tokens, *values.shape[-2:]).to(weights.dtype)  # [N, H, D]
    grad = torch.where(inside[left][:, None, None], grad, 0)

    d_padded = grad.new_zeros(tokens + taps - 1, *grad.shape[1:])  # [left + N + right, H, D]
    d_weights = torch.empty_like(weights)  # [N, H, K]
    for k in range(taps):
        d_padded[k : k + tokens] += torch.where(inside[k][:, None, None], weights[..., k, None] * grad, 0)
        d_weights[..., k] = (grad * shifted[k]).sum(-1)
    if softmax:
        d_weights = weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True))
    d_values = d_padded[left : left + tokens]
    return d_values.to(values.dtype).reshape(values.shape), d_weights.to(logits.dtype).reshape(logits.shape)


def _windows(
    values: torch.Tensor,
    logits: torch.Tensor,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    softmax: bool,
    causal: bool,
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Weights [N, H, K], the K shifted views of the values [N, H, D] with zeros outside, and where each is inside [N].

    Rows of tokens past their sequence's end are zero everywhere, so that garbage there reaches nothing.
    """
    heads, width = values.shape[-2:]
    taps = logits.shape[-1]
    left = left_context(taps, causal)
    batches, tokens = (1, values.shape[0]) if cu_seqlens is not None else values.shape[:2]
    position, start, end = token_bounds(batches, tokens, lengths, cu_seqlens, values.device)
    real = position < end  # [N]
    accumulate = torch.promote_types(values.dtype, torch.float32)

    logits = torch.where(real[:, None, None], logits.reshape(-1, heads, taps).to(accumulate), 0)
    weights = torch.where(real[:, None, None], logits.softmax(-1) if softmax else logits, 0)
    padded = torch.nn.functional.pad(
        values.reshape(position.shape[0], heads, width).to(accumulate), (0, 0, 0, 0, left, taps - 1 - left)
    )  # [left + N + right, H, D]
    inside = [real & (position + k - left >= start) & (position + k - left < end) for k in range(taps)]
    shifted = [torch.where(inside[k][:, None, None], padded[k : k + position.shape[0]], 0) for k in range(taps)]
    return weights, shifted, inside


# -- the registered op: (values, logits, lengths, cu_seqlens, softmax, causal, impl) -----------------------------------


def _forward(values, logits, lengths, cu_seqlens, softmax, causal, impl):
    out = extension.empty_like(values)  # [B, T, H, D]
    forward_into(out, values, logits, lengths, cu_seqlens, softmax, causal, impl)
    return out


def forward_into(
    out: torch.Tensor,
    values: torch.Tensor,
    logits: torch.Tensor,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    softmax: bool,
    causal: bool,
    impl: str,
) -> None:
    """Writes the convolution into `out`, which may be a slice of a wider buffer (last dimension contiguous)."""
    if values.dtype != logits.dtype:  # only settled here under autocast, which leaves fp64 tensors as they are
        raise TypeError(f"light_conv: logits is {logits.dtype}, values is {values.dtype}; both must have one dtype")
    launch = launch_forward.select(values.device.type, impl)
    if out.numel():
        launch(out, values, logits, lengths, cu_seqlens, softmax, causal)


def _forward_fake(values, logits, lengths, cu_seqlens, softmax, causal, impl):
    return values.new_empty(values.shape)


def _backward(grad, values, logits, lengths, cu_seqlens, softmax, causal, impl):
    d_values, d_logits = extension.empty_like(values), extension.empty_like(logits)
    launch = launch_backward.select(values.device.type, impl)
    if d_values.numel():
        launch(_rows(grad), d_values, d_logits, values, logits, lengths, cu_seqlens, softmax, causal)
    else:
        d_logits.zero_()
    return d_values, d_logits


def _backward_fake(grad, values, logits, lengths, cu_seqlens, softmax, causal, impl):
    return values.new_empty(values.shape), logits.new_empty(logits.shape)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """`x` with a contiguous last dimension: gradients may come expanded (stride 0) or transposed."""
    return x if x.stride()[-1] == 1 or x.shape[-1] == 1 else x.contiguous()


# -- launchers: one an implementation ----------------------------------------------------------------------------------


def _shape(values, logits, lengths, cu_seqlens, softmax, causal):
    """The call's sizes as the compiled code takes them. Packed: B sequences, T tokens in all."""
    sizes = values.shape if cu_seqlens is None else (cu_seqlens.shape[0] - 1, *values.shape)  # B, T, H, D
    return (
        *sizes,
        logits.shape[-1],
        0 if lengths is None else lengths.data_ptr(),
        0 if cu_seqlens is None else cu_seqlens.data_ptr(),
        softmax,
        causal,
        extension.DTYPES[values.dtype],
    )


def _compiled_forward(run, where, out, values, logits, lengths, cu_seqlens, *options):
    values, logits, lengths, cu_seqlens = _rows(values), _rows(logits), dense(lengths), dense(cu_seqlens)
    shape = _shape(values, logits, lengths, cu_seqlens, *options)
    run(shape, extension.operand(values), extension.operand(logits), extension.operand(out), where)


def _compiled_backward(run, where, grad, d_values, d_logits, values, logits, lengths, cu_seqlens, *options):
    values, logits, lengths, cu_seqlens = _rows(values), _rows(logits), dense(lengths), dense(cu_seqlens)
    tensors = (extension.operand(x) for x in (grad, values, logits, d_values, d_logits))
    run(_shape(values, logits, lengths, cu_seqlens, *options), *tensors, where)


def _cpu_forward(*arguments):
    _compiled_forward(extension.C.light_conv_forward_cpu, torch.get_num_threads(), *arguments)


def _cpu_backward(*arguments):
    _compiled_backward(extension.C.light_conv_backward_cpu, torch.get_num_threads(), *arguments)


def _cuda_forward(out, *arguments):
    with torch.cuda.device(out.device):
        stream = torch.cuda.current_stream().cuda_stream
        _compiled_forward(extension.C.light_conv_forward_cuda, stream, out, *arguments)


def _cuda_backward(grad, *arguments):
    with torch.cuda.device(grad.device):
        stream = torch.cuda.current_stream().cuda_stream
        _compiled_backward(extension.C.light_conv_backward_cuda, stream, grad, *arguments)


def _triton_forward(out, values, logits, lengths, cu_seqlens, softmax, causal):
    from bertkernels.kernels import light_conv as kernel

    checks.sequence_values("light_conv", values.shape[-3], lengths, cu_seqlens)
    kernel.forward(out, _rows(values), _rows(logits), lengths, cu_seqlens, softmax, causal)


def _triton_backward(grad, d_values, d_logits, values, logits, lengths, cu_seqlens, softmax, causal):
    from bertkernels.kernels import light_conv as kernel

    checks.sequence_values("light_conv", values.shape[-3], lengths, cu_seqlens)
    kernel.backward(grad, d_values, d_logits, _rows(values), _rows(logits), lengths, cu_seqlens, softmax, causal)


def _reference_forward(out, values, logits, lengths, cu_seqlens, softmax, causal):
    checks.sequence_values("light_conv", values.shape[-3], lengths, cu_seqlens)
    out.copy_(light_conv_reference(values, logits, lengths, cu_seqlens, softmax, causal))


def _reference_backward(grad, d_values, d_logits, values, logits, lengths, cu_seqlens, softmax, causal):
    checks.sequence_values("light_conv", values.shape[-3], lengths, cu_seqlens)
    gradients = light_conv_backward_reference(grad, values, logits, lengths, cu_seqlens, softmax, causal)
    d_values.copy_(gradients[0])
    d_logits.copy_(gradients[1])


launch_forward = dispatch.Launchers(
    "light_conv",
    {"cpu": _cpu_forward, "cuda": _cuda_forward, "triton": _triton_forward, "reference": _reference_forward},
)
launch_backward = dispatch.Launchers(
    "light_conv",
    {"cpu": _cpu_backward, "cuda": _cuda_backward, "triton": _triton_backward, "reference": _reference_backward},
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

light_conv_op = registry.register(
    "light_conv",
    "(Tensor values, Tensor logits, Tensor? lengths, Tensor? cu_seqlens, bool softmax, bool causal, str impl)"
    " -> Tensor",
    _forward,
    _forward_fake,
)
light_conv_backward_op = registry.register(
    "light_conv_backward",
    "(Tensor grad, Tensor values, Tensor logits, Tensor? lengths, Tensor? cu_seqlens, bool softmax, bool causal, "
    "str impl) -> (Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx, inputs, output):
    values, logits, lengths, cu_seqlens, ctx.softmax, ctx.causal, ctx.impl = inputs
    ctx.save_for_backward(values, logits, lengths, cu_seqlens)


def _autograd_backward(ctx, grad):
    values, logits, lengths, cu_seqlens = ctx.saved_tensors
    gradients = light_conv_backward_op(grad, values, logits, lengths, cu_seqlens, ctx.softmax, ctx.causal, ctx.impl)
    return *gradients, None, None, None, None, None


light_conv_op.differentiate(_autograd_backward, _setup_context)
