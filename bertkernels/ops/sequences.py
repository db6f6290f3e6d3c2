"""Where each token's own sequence begins and ends: what keeps convolutions away from padding and from neighbours."""

import torch


def token_bounds(
    batches: int, tokens: int, lengths: torch.Tensor | None, cu_seqlens: torch.Tensor | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions and bounds of all tokens in one flat row.

    Args:
        batches, tokens: B and T of the padded form; in the packed form `tokens` is the total.
        lengths: int32 [B] or None; cu_seqlens: int32 [B + 1] or None (packed form).

    Returns:
        position, start, end: int64 [N] each, N = B·T or total. Token n may read tokens start[n] ≤ m < end[n], and is
        real where position[n] < end[n].
    """
    if cu_seqlens is not None:
        position = torch.arange(tokens, device=device)  # [N]
        sequence = torch.searchsorted(cu_seqlens[1:].long(), position, right=True)  # [N]
        return position, cu_seqlens[sequence].long(), cu_seqlens[sequence + 1].long()
    position = torch.arange(batches * tokens, device=device)  # [N]
    start = torch.arange(batches, device=device) * tokens  # [B]
    end = start + (tokens if lengths is None else lengths.long().clamp(0, tokens))  # [B]
    start, end = (bound[:, None].expand(batches, tokens).flatten() for bound in (start, end))  # [N]
    return position, start, end


def dense(vector: torch.Tensor | None) -> torch.Tensor | None:
    """`lengths` or `cu_seqlens` as compiled code reads them, without gaps. Keep it alive over the call."""
    return None if vector is None else vector.contiguous()


def left_context(taps: int, causal: bool) -> int:
    """How many tokens before its own a token reads: tap k reads token t + k - left_context."""
    return taps - 1 if causal else (taps - 1) // 2
