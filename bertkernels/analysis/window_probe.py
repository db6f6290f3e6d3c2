"""What a linear map of a token's neighbourhood says of a part that mixes tokens.

A probe that sees a token alone counts all mixing as non-linearity. One that also sees the neighbours and the mean of
the sequence does not count the mixing that is the same everywhere: what it misses is mixing that depends on content.
"""

import torch


def windows(x: torch.Tensor, lengths: torch.Tensor, reach: int) -> torch.Tensor:
    """Each token's state, its neighbours' and the mean of its sequence, side by side: the x of a `LinearProbe`.

    Args:
        x: [N, D], the real tokens of sequences one after the other.
        lengths: int64 [B], the tokens of each; their sum is N.
        reach: how many neighbours on either side. Beyond a sequence's ends there are zeros.

    Returns:
        [N, (2·reach + 2)·D]: neighbours from −reach to reach (the token itself in the middle), then the mean.

    Raises:
        ValueError: a negative reach, or lengths that are not those of x.
    """
    if reach < 0:
        raise ValueError(f"reach must be at least 0, got {reach}")
    if int(lengths.sum()) != len(x):
        raise ValueError(f"lengths add up to {int(lengths.sum())}, but x has {len(x)} rows")
    sequence = torch.arange(len(lengths), device=x.device).repeat_interleave(lengths)  # [N]
    parts = [_shifted(x, sequence, offset) for offset in range(-reach, reach + 1)]
    sums = x.new_zeros(len(lengths), x.shape[1]).index_add(0, sequence, x)
    means = sums / lengths[:, None].clamp(min=1)
    return torch.cat([*parts, means[sequence]], 1)


def _shifted(x: torch.Tensor, sequence: torch.Tensor, offset: int) -> torch.Tensor:
    """Row i holds x[i + offset] where that is in the same sequence, else zeros."""
    place = torch.arange(len(x), device=x.device) + offset
    inside = (place >= 0) & (place < len(x))
    place = place.clamp(0, max(0, len(x) - 1))
    inside &= sequence[place] == sequence
    return x[place].where(inside[:, None], 0)
