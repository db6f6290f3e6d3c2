"""`attention`: torch's scaled dot-product attention on [B, T, H, D] and on packed sequences."""

import torch

from . import checks


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    cu_seqlens: torch.Tensor | None = None,
    max_seqlen: int | None = None,
) -> torch.Tensor:
    """softmax(query · keyᵀ · scale + mask) · value, for each head and sequence (Vaswani et al. 2017, eq. 1).

    Args:
        query, key, value: [B, T, H, D] each, or packed [total, H, D]; one dtype and device.
        attention_mask: padded form only: bool (True: may be attended) or additive, broadcastable to [B, H, T, T],
            usually [B, 1, 1, T]. A query that may attend nothing gets zeros from a bool mask.
        dropout_p: dropout on the attention probabilities; pass 0 outside training.
        scale: 1/√D if None.
        cu_seqlens: int32 [B + 1], packed form: tokens attend within their own sequence.
        max_seqlen: length of the longest sequence, where the caller knows it; else it is read from `cu_seqlens`.

    Returns:
        [B, T, H, D] (or [total, H, D]).
    """
    check("attention", query, key, value, attention_mask, cu_seqlens)
    if cu_seqlens is not None:
        return _packed_attention(query, key, value, dropout_p, scale, cu_seqlens, max_seqlen)
    return _padded_attention(query, key, value, attention_mask, dropout_p, scale)


def check(
    op: str,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
) -> None:
    """Raises where these do not make self-attention."""
    checks.tensor(op, "query", query, (3, 4), "[B, T, H, D] or packed [total, H, D]")
    checks.sequences(op, "query", query, None, cu_seqlens, padded_rank=4)
    for name, x in (("key", key), ("value", value)):
        checks.tensor(op, name, x, query.dim(), "of query's rank")
        checks.shape(op, name, x, tuple(query.shape), "query's shape")
        checks.alike(op, name, x, "query", query)
    if attention_mask is not None and cu_seqlens is not None:
        raise ValueError(f"{op}: attention_mask goes with the padded form; packed sequences need none")


def _padded_attention(query, key, value, attention_mask, dropout_p, scale):
    # [B, H, T, D] views in, and out again: torch's kernels read and write [B, T, H, D] memory through them
    heads_first = (x.transpose(1, 2) for x in (query, key, value))
    out = torch.nn.functional.scaled_dot_product_attention(
        *heads_first, attn_mask=attention_mask, dropout_p=dropout_p, scale=scale
    )
    return out.transpose(1, 2)


def _packed_attention(query, key, value, dropout_p, scale, cu_seqlens, max_seqlen):
    """Attention alone goes through the padded form: its keys must line up in a rectangle for torch's kernels."""
    checks.sequence_values("attention", query.shape[0], None, cu_seqlens)
    lengths = cu_seqlens.diff()  # [B]
    if not len(lengths) or not query.numel():
        return query * 1.0 + value * 0.0
    longest = int(lengths.max()) if max_seqlen is None else max_seqlen
    real = torch.arange(longest, device=query.device) < lengths[:, None]  # [B, T]
    place = torch.nonzero(real.flatten()).squeeze(1)  # [total]: each packed token's row among the B·T padded ones

    def pad(x: torch.Tensor) -> torch.Tensor:
        rows = x.new_zeros(len(lengths) * longest, *x.shape[1:]).index_copy(0, place, x)
        return rows.view(len(lengths), longest, *x.shape[1:])  # [B, T, H, D]

    out = _padded_attention(pad(query), pad(key), pad(value), real[:, None, None, :], dropout_p, scale)
    return out.flatten(0, 1).index_select(0, place)  # [total, H, D]
