"""`mixed_attention`: attention heads and dynamic convolution heads of one block, side by side in one buffer."""

import torch

from . import dispatch, registry
from .attention import attention
from .attention import check as check_attention
from .light_conv import check as check_light_conv
from .light_conv import forward_into, light_conv_backward_op


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
        conv_values: [B, T, N, D]: values of the N convolution heads (N = H in the published models).
        conv_logits: [B, T, N, K]: see `span_conv_logits`.
        attention_mask, dropout_p, scale, max_seqlen: as for `attention`; they concern the attention heads only.
        lengths, cu_seqlens, impl: as for `light_conv`. `lengths` concerns the convolution heads only: mask keys too.

    Returns:
        [B, T, (H + N)·D] (or [total, (H + N)·D]): attention heads first, convolution heads second.
    """
    check_attention("mixed_attention", query, key, value, attention_mask, cu_seqlens)
    check_light_conv("mixed_attention", conv_values, conv_logits, lengths, cu_seqlens)
    if conv_values.shape[:-2] != query.shape[:-2]:
        raise ValueError(
            f"mixed_attention: conv_values must have query's tokens {list(query.shape[:-2])}, "
            f"got {list(conv_values.shape[:-2])}"
        )
    attended = attention(
        query,
        key,
        value,
        attention_mask=attention_mask,
        dropout_p=dropout_p,
        scale=scale,
        cu_seqlens=cu_seqlens,
        max_seqlen=max_seqlen,
    )
    return join_light_conv_op(
        attended.flatten(-2), conv_values, conv_logits, lengths, cu_seqlens, dispatch.requested(impl)
    )


# -- the registered op: copies the attention heads' part and convolves straight into the rest of the same buffer -------


def _forward(attended, values, logits, lengths, cu_seqlens, impl):
    out = _forward_fake(attended, values, logits, lengths, cu_seqlens, impl)
    width = attended.shape[-1]
    out[..., :width] = attended
    forward_into(
        out[..., width:].unflatten(-1, values.shape[-2:]), values, logits, lengths, cu_seqlens, True, False, impl
    )
    return out


def _forward_fake(attended, values, logits, lengths, cu_seqlens, impl):
    width = attended.shape[-1] + values.shape[-2] * values.shape[-1]
    return attended.new_empty((*attended.shape[:-1], width))


join_light_conv_op = registry.register(
    "join_light_conv",
    "(Tensor attended, Tensor values, Tensor logits, Tensor? lengths, Tensor? cu_seqlens, str impl) -> Tensor",
    _forward,
    _forward_fake,
)


def _setup_context(ctx, inputs, output):
    attended, values, logits, lengths, cu_seqlens, ctx.impl = inputs
    ctx.width = attended.shape[-1]
    ctx.save_for_backward(values, logits, lengths, cu_seqlens)


def _autograd_backward(ctx, grad):
    values, logits, lengths, cu_seqlens = ctx.saved_tensors
    d_attended = grad[..., : ctx.width]
    d_conv = grad[..., ctx.width :].unflatten(-1, values.shape[-2:])
    d_values, d_logits = light_conv_backward_op(d_conv, values, logits, lengths, cu_seqlens, True, False, ctx.impl)
    return d_attended, d_values, d_logits, None, None, None


torch.library.register_autograd("bertkernels::join_light_conv", _autograd_backward, setup_context=_setup_context)
