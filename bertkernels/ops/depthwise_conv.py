"""`depthwise_conv`: one kernel a channel, channels last, no transposes."""

import torch

from .sequences import left_context, token_bounds


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
    """out[b, t, c] = Σ_k weight[c, k] · x[b, t + k - left, c] + bias[c]; x [B, T, C] or packed [total, C]."""
    taps, left = weight.shape[-1], left_context(weight.shape[-1], causal)
    batches, tokens = (1, x.shape[0]) if cu_seqlens is not None else x.shape[:2]
    position, start, end = token_bounds(batches, tokens, lengths, cu_seqlens, x.device)
    padded = torch.nn.functional.pad(x.reshape(-1, x.shape[-1]), (0, 0, left, taps - 1 - left))
    out = 0 if bias is None else bias
    for k in range(taps):
        inside = (position + k - left >= start) & (position + k - left < end)
        out = out + weight[:, k] * torch.where(inside[:, None], padded[k : k + len(position)], 0)
    return torch.where((position < end)[:, None], out, 0).to(x.dtype).reshape(x.shape)
