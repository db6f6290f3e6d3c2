"""Attention by torch's own kernels: what `attention` is on a GPU, and on the CPU for masks over pairs of tokens."""

import torch

from . import checks
from .rectangle import rectangle_of


def torch_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout_p: float,
    scale: float | None,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    max_seqlen: int | None,
) -> torch.Tensor:
    """See `attention`; a composition of torch's operations, which autograd and compilers see through."""
    if cu_seqlens is not None:
        return _packed(query, key, value, dropout_p, scale, cu_seqlens, max_seqlen)
    return _padded(query, key, value, attention_mask, dropout_p, scale, lengths)


def _padded(query, key, value, attention_mask, dropout_p, scale, lengths):
    padding = None
    if lengths is not None:
        checks.sequence_values("attention", query.shape[1], lengths, None)
        real = torch.arange(query.shape[1], device=lengths.device) < lengths[:, None]  # [B, T]
        padding = ~real[..., None, None]  # [B, T, 1, 1]
        # weights of 0 are not enough: 0 · NaN is NaN, and so are gradients of it
        query, key, value = (x.masked_fill(padding, 0) for x in (query, key, value))
        attention_mask = _without(attention_mask, real[:, None, None, :])
    # [B, H, T, D] views in, and out again: torch's kernels read and write [B, T, H, D] memory through them
    heads_first = (x.transpose(1, 2) for x in (query, key, value))
    out = torch.nn.functional.scaled_dot_product_attention(
        *heads_first, attn_mask=attention_mask, dropout_p=dropout_p, scale=scale
    ).transpose(1, 2)
    return out if padding is None else out.masked_fill(padding, 0)


def _without(mask: torch.Tensor | None, real: torch.Tensor) -> torch.Tensor:
    """The mask, but nothing attends keys that are not `real`."""
    if mask is None:
        return real
    return mask & real if mask.dtype == torch.bool else mask.masked_fill(~real, -torch.inf)


def _packed(query, key, value, dropout_p, scale, cu_seqlens, max_seqlen):
    checks.sequence_values("attention", query.shape[0], None, cu_seqlens)
    if cu_seqlens.shape[0] == 1 or not query.numel():
        return query * 1.0 + key * 0.0 + value * 0.0
    kernel = _packed_kernel(query)
    if kernel is not None:
        cu_seqlens = cu_seqlens.clamp(0, query.shape[0])  # nobody has read them on a GPU, and the kernel trusts them
    longest = int(cu_seqlens.diff().max()) if max_seqlen is None else max_seqlen
    if kernel is not None:
        query, key, value = (_aligned(x) for x in (query, key, value))
        return kernel(query, key, value, cu_seqlens.contiguous(), longest, dropout_p, scale)
    rectangle = rectangle_of(cu_seqlens, query.shape[0], longest)
    padded = (rectangle.spread(x) for x in (query, key, value))  # [B, T, H, D]
    return rectangle.gather(_padded(*padded, None, dropout_p, scale, rectangle.lengths))


# -- torch's kernels for packed sequences: those behind its nested tensors and torch.nn.attention.varlen, which has no
# dropout. They run on GPUs only and ask for rows that begin at multiples of 16 bytes.


def _packed_kernel(query: torch.Tensor):
    """The kernel that can take packed queries like these, or None."""
    width = query.shape[-1]
    if query.device.type != "cuda" or query.dtype == torch.float64 or width * query.element_size() % 16:
        return None
    if query.dtype != torch.float32 and width <= 256 and torch.backends.cuda.is_flash_attention_available():
        if torch.version.hip or torch.cuda.get_device_capability(query.device) >= (8, 0):
            return _flash_attention
    return _efficient_attention


def _flash_attention(query, key, value, cu_seqlens, longest, dropout_p, scale):
    offsets = (cu_seqlens, cu_seqlens, longest, longest)
    results = torch.ops.aten._flash_attention_forward(query, key, value, *offsets, dropout_p, False, False, scale=scale)
    return results[0]


def _efficient_attention(query, key, value, cu_seqlens, longest, dropout_p, scale):
    differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    offsets = (cu_seqlens, cu_seqlens, longest, longest)
    results = torch.ops.aten._efficient_attention_forward(
        query[None], key[None], value[None], None, *offsets, dropout_p, 0, differentiated, scale=scale
    )
    return results[0].squeeze(0)


def _aligned(x: torch.Tensor) -> torch.Tensor:
    """`x` [total, H, D], copied if not all of its rows begin at multiples of 16 bytes."""
    steps = (x.storage_offset(), *x.stride()[:-1])
    rows = x.stride(-1) == 1 and all(step * x.element_size() % 16 == 0 for step in steps)
    return x if rows else x.contiguous()
