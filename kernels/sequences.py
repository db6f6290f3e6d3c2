"""Where a tile's tokens lie, for padded rows of tokens and for packed sequences alike."""

import torch
import triton
import triton.language as tl


@triton.jit
def locate_groups(
    i_tile,
    p_lengths,
    p_cu_seqlens,
    batches,
    tokens,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The tile's ROWS groups of GROUP neighbouring tokens. A group never crosses the end of its sequence.

    Padded form (`p_cu_seqlens` is None): ceil(T / GROUP) groups a row of tokens. Packed form: sequence b's first group
    is number floor((cu_seqlens[b] + b·(GROUP - 1)) / GROUP), which leaves each sequence at least ceil(length / GROUP)
    groups, at a cost of at most one idle group a sequence, and can be searched without a pass over the lengths.

    Lengths and boundaries are clamped to the tokens there are: whatever they hold, no address is out of bounds.

    Returns:
        i_batch: int64 [ROWS], the row of tokens (0 in the packed form).
        b_token: int64 [ROWS], the group's first token in that row.
        group: three of int32 [ROWS]:
            b_position, the group's first position in its sequence;
            b_length, how many tokens the sequence has, 0 where there is no group;
            b_room, how many positions have a place in memory (b_length ≤ b_room).
    """
    o_row = tl.arange(0, ROWS)  # [ROWS]
    i_first_group = i_tile.to(tl.int64) * ROWS
    if p_cu_seqlens is None:
        groups = (tokens + GROUP - 1) // GROUP
        # One 64-bit division a program, 32-bit ones a row.
        i_row = (i_first_group % groups).to(tl.int32) + o_row  # [ROWS]
        i_batch = i_first_group // groups + i_row // groups  # [ROWS]
        m_batch = i_batch < batches
        b_room = tl.where(m_batch, tokens, 0)  # [ROWS]
        b_length = b_room
        if p_lengths is not None:
            b_length = tl.load(p_lengths + i_batch, mask=m_batch, other=0)
            b_length = tl.minimum(tl.maximum(b_length, 0), b_room)
        b_position = i_row % groups * GROUP  # [ROWS]
        return i_batch, b_position.to(tl.int64), (b_position, b_length, b_room)
    else:
        i_group = i_first_group + o_row  # [ROWS]
        # The last sequence whose first group is not past ours. The first starts at 0 whatever cu_seqlens[0] holds.
        i_low = tl.zeros([ROWS], dtype=tl.int32)
        i_high = tl.zeros([ROWS], dtype=tl.int32) + batches
        i_span = batches
        while i_span > 1:
            i_span = (i_span + 1) // 2
            i_middle = (i_low + i_high) // 2
            b_start = tl.minimum(tl.maximum(tl.load(p_cu_seqlens + i_middle), 0), tokens).to(tl.int64)
            m_right = (b_start + i_middle.to(tl.int64) * (GROUP - 1)) // GROUP <= i_group
            i_low = tl.where(m_right, i_middle, i_low)
            i_high = tl.where(m_right, i_high, i_middle)
        b_start = tl.load(p_cu_seqlens + i_low, mask=i_low > 0, other=0)
        b_end = tl.load(p_cu_seqlens + i_low + 1, mask=i_low < batches - 1, other=tokens)
        b_start = tl.minimum(tl.maximum(b_start, 0), tokens)  # [ROWS]
        b_end = tl.minimum(tl.maximum(b_end, b_start), tokens)  # [ROWS]
        i_start_group = (b_start.to(tl.int64) + i_low.to(tl.int64) * (GROUP - 1)) // GROUP
        b_position = (i_group - i_start_group) * GROUP  # [ROWS]
        # A group past the last one has a position past its sequence's end: 0 tokens, as for idle groups.
        b_length = b_end - b_start
        m_group = b_position < b_length
        b_length = tl.where(m_group, b_length, 0)
        b_position = tl.where(m_group, b_position, 0).to(tl.int32)
        b_token = b_start.to(tl.int64) + b_position  # [ROWS]
        return tl.zeros([ROWS], dtype=tl.int64), b_token, (b_position, b_length, b_length)


def without_gaps(*vectors: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """`lengths` and `cu_seqlens` as kernels read them: one number after the other."""
    return tuple(x if x is None or x.is_contiguous() else x.contiguous() for x in vectors)


def group_count(batches: int, tokens: int, packed: bool, group: int) -> int:
    """How many groups of `group` tokens there are.

    Args:
        batches, tokens: B and T of the padded form; the number of sequences and of all tokens in the packed form.
    """
    if not packed:
        return batches * triton.cdiv(tokens, group)
    if batches < 1:
        raise ValueError(f"cu_seqlens must hold at least one sequence for {tokens} tokens, got shape [1]")
    return (tokens + batches * (group - 1)) // group
