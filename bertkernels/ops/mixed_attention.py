"""`mixed_attention`: attention heads and dynamic convolution heads of one block, side by side in one buffer."""

import functools

import torch

from . import checks, dispatch, extension, registry
from .attention import attention_reference, draw_seed, key_bias_of, lse_like, resolve, rows, softmax_scale
from .attention import backward_into as differentiate_attention_into
from .attention import check as check_attention
from .attention import forward_into as attend_into
from .light_conv import check as check_light_conv
from .light_conv import forward_into as convolve_into
from .light_conv import light_conv_backward_op, light_conv_reference
from .torch_attention import torch_attention


def mixed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    conv_values: torch.Tensor,
    conv_logits: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    max_seqlen: int | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """ConvBERT's mixed attention after the projections (Jiang et al. 2020, §3.3, fig. 4).

        concat over heads( attention(query, key, value), light_conv(conv_values, conv_logits) )

    Args:
        query, key, value: [B, T, H, D] each, or packed [total, H, D].
        conv_values: [B, T, N, D] of the same dtype and device: values of the N convolution heads (N = H in the
            published models).
        conv_logits: [B, T, N, K]: see `span_conv_logits`.
        attention_mask, dropout_p, scale, max_seqlen: as for `attention`; they concern the attention heads only.
        lengths, cu_seqlens: as for `attention` and `light_conv`: tokens past a sequence's length are neither attended
            nor convolved, and come out as zeros.
        impl: "cpu" and "triton" write both halves themselves, "triton" in one launch; "torch" and "cuda" have torch's
            kernels attend, and the best of ours or the CUDA one convolve; "reference". None takes the best that can
            run, which on a GPU is one with torch's kernels.

    Returns:
        [B, T, (H + N)·D] (or [total, (H + N)·D]): attention heads first, convolution heads second.

    Raises:
        ValueError, TypeError, RuntimeError: as `attention` and `light_conv`.
    """
    check_attention("mixed_attention", query, key, value, attention_mask, dropout_p, lengths, cu_seqlens)
    check_light_conv("mixed_attention", conv_values, conv_logits, lengths, cu_seqlens)
    checks.alike("mixed_attention", "conv_values", conv_values, "query", query)
    if conv_values.shape[:-2] != query.shape[:-2]:
        raise ValueError(
            f"mixed_attention: conv_values must have query's tokens {list(query.shape[:-2])}, "
            f"got {list(conv_values.shape[:-2])}"
        )
    run = launch.functions[resolve("mixed_attention", query, attention_mask, impl)]
    tensors = (query, key, value, conv_values, conv_logits)
    return run(*tensors, attention_mask, dropout_p, scale, lengths, cu_seqlens, max_seqlen)


def mixed_attention_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    conv_values: torch.Tensor,
    conv_logits: torch.Tensor,
    key_bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    seed: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> torch.Tensor:
    """The specification of `mixed_attention`, in plain torch operations; differentiable; sums in fp32 or fp64."""
    attended, _ = attention_reference(query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale)
    convolved = light_conv_reference(conv_values, conv_logits, lengths, cu_seqlens)
    return torch.cat([attended.flatten(-2), convolved.flatten(-2)], -1)


# -- the registered op: implementations that write both halves ---------------------------------------------------------
# tensors = (query, key, value, conv_values, conv_logits)
# options = (key_bias, lengths, cu_seqlens, seed, dropout_p, scale)
# (*tensors, *options, impl) -> (out, lse); lse as for `attention`; impl is a name by now.


def _forward(*arguments):
    tensors, options, impl = arguments[:5], arguments[5:11], arguments[11]
    for name, x in zip(("key", "value", "conv_values", "conv_logits"), tensors[1:], strict=True):
        checks.alike("mixed_attention", name, x, "query", tensors[0])  # only settled here under autocast
    out, lse = _forward_fake(*arguments)
    _FORWARD[impl](out, lse, tensors, options)
    return out, lse


def _forward_fake(query, key, value, conv_values, conv_logits, *_):
    width = query.shape[-2] * query.shape[-1] + conv_values.shape[-2] * conv_values.shape[-1]
    return query.new_empty((*query.shape[:-2], width)), lse_like(query)


def _backward(grad, *arguments):
    tensors, (out, lse), options, impl = arguments[:5], arguments[5:7], arguments[7:13], arguments[13]
    return _BACKWARD[impl](grad, tensors, out, lse, options)


def _backward_fake(grad, *arguments):
    return tuple(x.new_empty(x.shape) for x in arguments[:5])


# -- launchers ---------------------------------------------------------------------------------------------------------


def _halves(x: torch.Tensor, query: torch.Tensor, conv_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Views of the heads of both kinds, [B, T, H, D] and [B, T, N, D], of x [B, T, (H + N)·D], last dim contiguous."""
    heads, width = query.shape[-2:]
    *steps, _ = x.stride()
    attended = x.as_strided(query.shape, (*steps, width, 1))
    offset = x.storage_offset() + heads * width
    return attended, x.as_strided(conv_values.shape, (*steps, conv_values.shape[-1], 1), offset)


def _forward_by_halves(impl, out, lse, tensors, options):
    query, key, value, conv_values, conv_logits = tensors
    _, lengths, cu_seqlens, *_ = options
    attended, convolved = _halves(out, query, conv_values)
    attend_into(attended, lse, query, key, value, *options, impl)
    convolve_into(convolved, conv_values, conv_logits, lengths, cu_seqlens, True, False, impl)


def _backward_by_halves(impl, grad, tensors, out, lse, options):
    query, key, value, conv_values, conv_logits = tensors
    _, lengths, cu_seqlens, *_ = options
    d_attended, d_convolved = _halves(rows(grad), query, conv_values)
    attended, _ = _halves(rows(out), query, conv_values)
    gradients = tuple(map(extension.empty_like, (query, key, value)))
    differentiate_attention_into(gradients, d_attended, query, key, value, attended, lse, *options, impl)
    sequences = (lengths, cu_seqlens)
    return *gradients, *light_conv_backward_op(d_convolved, conv_values, conv_logits, *sequences, True, False, impl)


def _triton_forward(out, lse, tensors, options):
    from bertkernels.kernels import mixed_attention as kernel

    if out.numel():
        kernel.forward(out, lse, *map(rows, tensors), *_triton_options(tensors[0], options))
    else:
        lse.zero_()


def _triton_backward(grad, tensors, out, lse, options):
    from bertkernels.kernels import mixed_attention as kernel

    gradients = _backward_fake(grad, *tensors)
    if out.numel():
        kernel.backward(rows(grad), *gradients, *map(rows, tensors), out, lse, *_triton_options(tensors[0], options))
    else:
        for gradient in gradients:
            gradient.zero_()
    return gradients


def _triton_options(query, options):
    key_bias, lengths, cu_seqlens, seed, dropout_p, scale = options
    checks.sequence_values("mixed_attention", query.shape[-3], lengths, cu_seqlens)
    return key_bias, lengths, cu_seqlens, softmax_scale(query, scale), dropout_p, seed


_FORWARD = {
    "cpu": functools.partial(_forward_by_halves, "cpu"),
    "triton": _triton_forward,
    "reference": functools.partial(_forward_by_halves, "reference"),
}
_BACKWARD = {
    "cpu": functools.partial(_backward_by_halves, "cpu"),
    "triton": _triton_backward,
    "reference": functools.partial(_backward_by_halves, "reference"),
}


def _registered(impl, *arguments):
    *tensors, attention_mask, dropout_p, scale, lengths, cu_seqlens, _ = arguments
    query = tensors[0]
    options = (key_bias_of(attention_mask, query), lengths, cu_seqlens, draw_seed(query, dropout_p), dropout_p, scale)
    return mixed_attention_op(*tensors, *options, impl)[0]


def _with_torch(
    conv_impl,
    query,
    key,
    value,
    conv_values,
    conv_logits,
    attention_mask,
    dropout_p,
    scale,
    lengths,
    cu_seqlens,
    max_seqlen,
):
    options = (attention_mask, dropout_p, scale, lengths, cu_seqlens, max_seqlen)
    attended = torch_attention(query, key, value, *options)
    return join_light_conv_op(attended.flatten(-2), conv_values, conv_logits, lengths, cu_seqlens, conv_impl)


launch = dispatch.Launchers(
    "mixed_attention",
    {
        "cpu": functools.partial(_registered, "cpu"),
        "cuda": functools.partial(_with_torch, "cuda"),
        "torch": functools.partial(_with_torch, ""),
        "triton": functools.partial(_registered, "triton"),
        "reference": functools.partial(_registered, "reference"),
    },
    compiled_as="light_conv",
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

_TENSORS = "Tensor query, Tensor key, Tensor value, Tensor conv_values, Tensor conv_logits"
_OPTIONS = (
    "Tensor? key_bias, Tensor? lengths, Tensor? cu_seqlens, Tensor? seed, float dropout_p, float? scale, str impl"
)

mixed_attention_op = registry.register(
    "mixed_attention", f"({_TENSORS}, {_OPTIONS}) -> (Tensor, Tensor)", _forward, _forward_fake
)
mixed_attention_backward_op = registry.register(
    "mixed_attention_backward",
    f"(Tensor grad, {_TENSORS}, Tensor out, Tensor lse, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    autocast=False,
)


def _setup_context(ctx, inputs, output):
    *tensors, ctx.dropout_p, ctx.scale, ctx.impl = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors[:5], *output, *tensors[5:])


def _autograd_backward(ctx, grad, _):
    if grad is None:
        return (None,) * 12
    gradients = mixed_attention_backward_op(grad, *ctx.saved_tensors, ctx.dropout_p, ctx.scale, ctx.impl)
    return *gradients, *(None,) * 7


mixed_attention_op.differentiate(_autograd_backward, _setup_context)


# -- join_light_conv: copies attention heads from elsewhere and convolves straight into the rest of the same buffer ----


def _join(attended, values, logits, lengths, cu_seqlens, impl):
    out = _join_fake(attended, values, logits, lengths, cu_seqlens, impl)
    width = attended.shape[-1]
    out[..., :width] = attended
    convolved = out[..., width:].unflatten(-1, values.shape[-2:])
    convolve_into(convolved, values, logits, lengths, cu_seqlens, True, False, impl)
    return out


def _join_fake(attended, values, logits, lengths, cu_seqlens, impl):
    width = attended.shape[-1] + values.shape[-2] * values.shape[-1]
    return attended.new_empty((*attended.shape[:-1], width))


join_light_conv_op = registry.register(
    "join_light_conv",
    "(Tensor attended, Tensor values, Tensor logits, Tensor? lengths, Tensor? cu_seqlens, str impl) -> Tensor",
    _join,
    _join_fake,
)


def _setup_join_context(ctx, inputs, output):
    attended, values, logits, lengths, cu_seqlens, ctx.impl = inputs
    ctx.width = attended.shape[-1]
    ctx.save_for_backward(values, logits, lengths, cu_seqlens)


def _join_autograd_backward(ctx, grad):
    values, logits, lengths, cu_seqlens = ctx.saved_tensors
    d_attended = grad[..., : ctx.width]
    d_conv = grad[..., ctx.width :].unflatten(-1, values.shape[-2:])
    d_values, d_logits = light_conv_backward_op(d_conv, values, logits, lengths, cu_seqlens, True, False, ctx.impl)
    return d_attended, d_values, d_logits, None, None, None


join_light_conv_op.differentiate(_join_autograd_backward, _setup_join_context)
