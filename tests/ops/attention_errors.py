"""How far attention may be from the result in fp64, and the sequences it is tried on."""

import itertools

import torch

from bertkernels.ops.attention import attention_reference, dropout_factors
from tests.ops.gradients import with_gradients


def int32(numbers, device="cpu"):
    return torch.tensor(numbers, dtype=torch.int32, device=device)


def offsets(counts, device="cpu"):
    return int32([0, *itertools.accumulate(counts)], device)


def eager(query, key, value, grad, key_bias=None, lengths=None, seed=None, dropout_p=0.0, scale=None):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""
    B, T, H, D = query.shape
    real = torch.ones(B, T, dtype=torch.bool, device=query.device)
    if lengths is not None:
        real = torch.arange(T, device=query.device) < lengths[:, None]

    def attend(query, key, value):
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * (D**-0.5 if scale is None else scale)
        if key_bias is not None:
            scores = scores + key_bias[:, None, None, :]
        scores = scores.masked_fill(~real[:, None, None, :], torch.finfo(scores.dtype).min)
        probabilities = scores.softmax(-1)
        if seed is not None:
            probabilities = probabilities * dropout_factors(seed, B, H, T, dropout_p, query.dtype)
        out = torch.einsum("bhqk,bkhd->bqhd", probabilities, value)
        return torch.where(real[..., None, None], out, 0)

    return with_gradients(attend, (query, key, value), grad)


def magnitudes(query, key, value, grad, scale=None, **options):
    """Sums of the absolute values of the terms that the results are sums of.

    A probability counts with what the rounding of its score makes of it: an exponential is relatively off by as much as
    its argument is absolutely, and that is in proportion to the root of the sum of its terms' squares.
    """
    query, key, value, grad = (x.double() for x in (query, key, value, grad))
    B, T, H, D = query.shape
    tokens = torch.eye(T, dtype=torch.float64, device=query.device)[None, :, None].expand(B, T, H, T)
    zero = torch.zeros_like(query[..., :1])
    factor = D**-0.5 if scale is None else scale
    wide_key = torch.cat([key, zero.expand(B, T, H, max(0, T - D))], -1)
    wide_query = torch.cat([query, zero.expand(B, T, H, max(0, T - D))], -1)
    tokens = torch.cat([tokens, zero.expand(B, T, H, max(0, D - T))], -1)
    p, _ = attention_reference(wide_query, wide_key, tokens, scale=factor, **options)  # [B, Q, H, K]: probabilities
    spread = torch.einsum("bqhd,bkhd->bqhk", query.square(), key.square()).sqrt() * abs(factor)
    p = p[..., :T] * (1 + spread)
    slopes = torch.einsum("bqhd,bkhd->bqhk", grad.abs(), value.abs())
    slopes = p * (slopes + (p * slopes).sum(-1, keepdim=True)) * abs(factor)
    return (
        torch.einsum("bqhk,bkhd->bqhd", p, value.abs()),
        torch.einsum("bqhk,bkhd->bqhd", slopes, key.abs()),
        torch.einsum("bqhk,bqhd->bkhd", slopes, query.abs()),
        torch.einsum("bqhk,bqhd->bkhd", p, grad.abs()),
    )
