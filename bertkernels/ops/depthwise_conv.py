"""`depthwise_conv`: one kernel a channel, channels last, no transposes."""

import torch

from . import checks, dispatch, extension, registry
from .sequences import dense, left_context, token_bounds


def depthwise_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    causal: bool = False,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """Convolves each channel of `x` with a kernel of its own, the same at every token.

        out[b, t, c] = Σ_k weight[c, k] · x[b, t + k - left, c] + bias[c]

    with left = (K - 1) // 2, or K - 1 if causal; tokens outside the sequence count as zeros. This is the depthwise
    half of the separable convolution that makes the span of ConvBERT's kernels (Jiang et al. 2020, §3.2), without the
    transposes that `torch.nn.functional.conv1d` needs around it.

    Args:
        x: [B, T, C], or packed [total, C]. Any strides with a contiguous last dimension.
        weight: [C, K], of the same dtype and device; any K ≥ 1.
        bias: [C] or None, likewise.
        causal: the window ends at its own token instead of being centred on it.
        lengths: int32 [B], padded form: tokens past a sequence's length act as zeros and come out as zeros.
        cu_seqlens: int32 [B + 1], packed form: sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1] - 1.
        impl: "cpu", "cuda", "triton" or "reference"; None takes the best that can run.

    Returns:
        [B, T, C] (or [total, C]), contiguous, of `x`'s dtype. Sums are in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, or contents of `lengths`/`cu_seqlens` do not fit. On a
            GPU contents are read only if BERTKERNELS_CHECK_SEQUENCES=1, for that waits for it; otherwise those out of
            range count as clamped: nothing outside the tensors is read or written, but results are undefined for tokens
            that `cu_seqlens` then give to no sequence, or to several.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    check("depthwise_conv", x, weight, bias, lengths, cu_seqlens)
    return depthwise_conv_op(x, weight, bias, lengths, cu_seqlens, causal, dispatch.requested(impl))


def check(
    op: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
) -> None:
    """Raises where x, weight, bias and sequences do not make a depthwise convolution."""
    checks.tensor(op, "x", x, (2, 3), "[B, T, C] or packed [total, C]")
    checks.tensor(op, "weight", weight, 2, "[C, K]")
    checks.sequences(op, "x", x, lengths, cu_seqlens, padded_rank=3)
    channels, taps = x.shape[-1], weight.shape[-1]
    if taps == 0:
        raise ValueError(f"{op}: weight must have at least one tap (K ≥ 1), got shape {list(weight.shape)}")
    checks.shape(op, "weight", weight, (channels, taps), "[C, K]")
    checks.alike(op, "weight", weight, "x", x)
    if bias is not None:
        checks.tensor(op, "bias", bias, 1, "[C]")
        checks.shape(op, "bias", bias, (channels,), "[C]")
        checks.alike(op, "bias", bias, "x", x)


# -- reference ---------------------------------------------------------------------------------------------------------


def depthwise_conv_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """The specification of `depthwise_conv`, in plain torch operations; differentiable; sums in fp32 or fp64."""
    shifted, inside = _windows(x, weight.shape[-1], lengths, cu_seqlens, causal)
    weight = weight.to(shifted[0].dtype)
    out = sum(weight[:, k] * shifted[k] for k in range(len(shifted)))  # [N, C]
    if bias is not None:
        out = out + bias
    real = inside[left_context(weight.shape[-1], causal)]  # the tap that reads the token itself
    return torch.where(real[:, None], out, 0).to(x.dtype).reshape(x.shape)


def depthwise_conv_backward_reference(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `depthwise_conv` with respect to x, weight and bias, derived by hand."""
    shifted, inside = _windows(x, weight.shape[-1], lengths, cu_seqlens, causal)
    tokens, taps = shifted[0].shape[0], weight.shape[-1]
    left = left_context(taps, causal)
    taken = weight.to(shifted[0].dtype)
    grad = torch.where(inside[left][:, None], grad.reshape(tokens, -1).to(taken.dtype), 0)  # [N, C]

    d_padded = grad.new_zeros(tokens + taps - 1, grad.shape[1])  # [left + N + right, C]
    d_weight = torch.empty_like(taken, memory_format=torch.contiguous_format)  # [C, K]
    for k in range(taps):
        d_padded[k : k + tokens] += torch.where(inside[k][:, None], taken[:, k] * grad, 0)
        d_weight[:, k] = (grad * shifted[k]).sum(0)
    d_x = d_padded[left : left + tokens]
    return d_x.to(x.dtype).reshape(x.shape), d_weight.to(weight.dtype), grad.sum(0).to(weight.dtype)


def _windows(
    x: torch.Tensor,
    taps: int,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    causal: bool,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The K shifted views of x [N, C] with zeros outside, and where each is inside its token's own sequence [N].

    Rows of tokens past their sequence's end are zero everywhere, so that garbage there reaches nothing.
    """
    left = left_context(taps, causal)
    batches, tokens = (1, x.shape[0]) if cu_seqlens is not None else x.shape[:2]
    position, start, end = token_bounds(batches, tokens, lengths, cu_seqlens, x.device)
    real = position < end  # [N]
    rows = x.reshape(position.shape[0], x.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))
    padded = torch.nn.functional.pad(rows, (0, 0, left, taps - 1 - left))  # [left + N + right, C]
    inside = [real & (position + k - left >= start) & (position + k - left < end) for k in range(taps)]
    shifted = [torch.where(inside[k][:, None], padded[k : k + position.shape[0]], 0) for k in range(taps)]
    return shifted, inside


# -- the registered op: (x, weight, bias, lengths, cu_seqlens, causal, impl) -------------------------------------------


def _forward(x, weight, bias, lengths, cu_seqlens, causal, impl):
    # Under autocast dtypes are only settled here: fp64 tensors keep theirs.
    checks.alike("depthwise_conv", "weight", weight, "x", x)
    if bias is not None:
        checks.alike("depthwise_conv", "bias", bias, "x", x)
    out = extension.empty_like(x)  # [B, T, C]
    launch = launch_forward.select(x.device.type, impl)
    if out.numel():
        launch(out, x, weight, bias, lengths, cu_seqlens, causal)
    return out


def _forward_fake(x, weight, bias, lengths, cu_seqlens, causal, impl):
    return x.new_empty(x.shape)


def _backward(grad, x, weight, lengths, cu_seqlens, causal, wanted, impl):
    gradients = _backward_fake(grad, x, weight, lengths, cu_seqlens, causal, wanted, impl)
    launch = launch_backward.select(x.device.type, impl)
    if x.numel():
        launch(_rows(grad.to(x.dtype)), *gradients, x, weight, lengths, cu_seqlens, causal)
    else:
        for gradient in gradients:
            gradient.zero_()
    return gradients


def _backward_fake(grad, x, weight, lengths, cu_seqlens, causal, wanted, impl):
    """d_x, d_weight and d_bias; those that are not wanted are empty."""
    shapes = (x.shape, weight.shape, weight.shape[:1])
    return tuple(x.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True))


def _rows(x: torch.Tensor) -> torch.Tensor:
    """`x` with a contiguous last dimension: gradients may come expanded (stride 0) or transposed."""
    return x if x.stride()[-1] == 1 or x.shape[-1] == 1 else x.contiguous()


# -- launchers: one an implementation ----------------------------------------------------------------------------------


def _shape(x, weight, lengths, cu_seqlens, causal):
    """The call's sizes as the compiled code takes them. Packed: B sequences, T tokens in all."""
    batches, tokens = x.shape[:2] if cu_seqlens is None else (cu_seqlens.shape[0] - 1, x.shape[0])
    return (
        batches,
        tokens,
        *weight.shape,
        0 if lengths is None else lengths.data_ptr(),
        0 if cu_seqlens is None else cu_seqlens.data_ptr(),
        causal,
        extension.DTYPES[x.dtype],
    )


def _compiled_forward(run, where, out, x, weight, bias, lengths, cu_seqlens, causal):
    x, weight, lengths, cu_seqlens = _rows(x), _rows(weight), dense(lengths), dense(cu_seqlens)
    bias = None if bias is None else _rows(bias)
    address = 0 if bias is None else bias.data_ptr()
    operands = (extension.operand(x), extension.operand(weight), address, extension.operand(out))
    run(_shape(x, weight, lengths, cu_seqlens, causal), *operands, *where)


def _compiled_backward(run, where, grad, d_x, d_weight, d_bias, x, weight, lengths, cu_seqlens, causal):
    x, weight, lengths, cu_seqlens = _rows(x), _rows(weight), dense(lengths), dense(cu_seqlens)
    inputs = (extension.operand(grad), extension.operand(x), extension.operand(weight))
    # these are contiguous, and empty (address 0) where they are not wanted
    outputs = (d_x.data_ptr(), d_weight.data_ptr(), d_bias.data_ptr())
    run(_shape(x, weight, lengths, cu_seqlens, causal), *inputs, *outputs, *where)


def _cpu_forward(*arguments):
    _compiled_forward(extension.C.depthwise_conv_forward_cpu, (torch.get_num_threads(),), *arguments)


def _cpu_backward(*arguments):
    _compiled_backward(extension.C.depthwise_conv_backward_cpu, (torch.get_num_threads(),), *arguments)


def _cuda_forward(out, *arguments):
    with torch.cuda.device(out.device):
        stream = torch.cuda.current_stream().cuda_stream
        _compiled_forward(extension.C.depthwise_conv_forward_cuda, (stream,), out, *arguments)


def _cuda_backward(grad, d_x, d_weight, d_bias, x, weight, *options):
    with torch.cuda.device(grad.device):
        stream = torch.cuda.current_stream().cuda_stream
        sums = _sums(extension.C.depthwise_conv_sums_cuda, d_weight, d_bias, x, weight, *options)
        run, where = extension.C.depthwise_conv_backward_cuda, (sums.data_ptr(), stream)
        _compiled_backward(run, where, grad, d_x, d_weight, d_bias, x, weight, *options)


def _sums(count, d_weight, d_bias, x, weight, *options):
    """Memory that the kernels add up gradients of weight and bias in."""
    wanted = d_weight.numel() or d_bias.numel()
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(count(_shape(x, weight, *options)) if wanted else 0, dtype=dtype)


def _triton_forward(out, x, weight, bias, lengths, cu_seqlens, causal):
    from bertkernels.kernels import depthwise_conv as kernel

    checks.sequence_values("depthwise_conv", x.shape[-2], lengths, cu_seqlens)
    bias = None if bias is None else _rows(bias)
    kernel.forward(out, _rows(x), _rows(weight), bias, lengths, cu_seqlens, causal)


def _triton_backward(grad, d_x, d_weight, d_bias, x, weight, lengths, cu_seqlens, causal):
    from bertkernels.kernels import depthwise_conv as kernel

    checks.sequence_values("depthwise_conv", x.shape[-2], lengths, cu_seqlens)
    kernel.backward(grad, d_x, d_weight, d_bias, _rows(x), _rows(weight), lengths, cu_seqlens, causal)


def _reference_forward(out, x, weight, bias, lengths, cu_seqlens, causal):
    checks.sequence_values("depthwise_conv", x.shape[-2], lengths, cu_seqlens)
    out.copy_(depthwise_conv_reference(x, weight, bias, lengths, cu_seqlens, causal))


def _reference_backward(grad, d_x, d_weight, d_bias, x, weight, lengths, cu_seqlens, causal):
    checks.sequence_values("depthwise_conv", x.shape[-2], lengths, cu_seqlens)
    computed = depthwise_conv_backward_reference(grad, x, weight, lengths, cu_seqlens, causal)
    for gradient, value in zip((d_x, d_weight, d_bias), computed, strict=True):
        if gradient.numel():
            gradient.copy_(value)


launch_forward = dispatch.Launchers(
    "depthwise_conv",
    {"cpu": _cpu_forward, "cuda": _cuda_forward, "triton": _triton_forward, "reference": _reference_forward},
)
launch_backward = dispatch.Launchers(
    "depthwise_conv",
    {"cpu": _cpu_backward, "cuda": _cuda_backward, "triton": _triton_backward, "reference": _reference_backward},
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

depthwise_conv_op = registry.register(
    "depthwise_conv",
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? lengths, Tensor? cu_seqlens, bool causal, str impl) -> Tensor",
    _forward,
    _forward_fake,
)
depthwise_conv_backward_op = registry.register(
    "depthwise_conv_backward",
    "(Tensor grad, Tensor x, Tensor weight, Tensor? lengths, Tensor? cu_seqlens, bool causal, bool[3] wanted, "
    "str impl) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx, inputs, output):
    x, weight, _, lengths, cu_seqlens, ctx.causal, ctx.impl = inputs
    ctx.save_for_backward(x, weight, lengths, cu_seqlens)


def _autograd_backward(ctx, grad):
    wanted = list(ctx.needs_input_grad[:3])
    gradients = depthwise_conv_backward_op(grad, *ctx.saved_tensors, ctx.causal, wanted, ctx.impl)
    taken = (gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))
    return *taken, None, None, None, None


depthwise_conv_op.differentiate(_autograd_backward, _setup_context)
