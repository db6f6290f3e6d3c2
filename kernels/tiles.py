"""Where the one tile of tokens of a program lies, for padded rows of tokens and for packed sequences alike."""

import triton
import triton.language as tl


@triton.jit
def locate_tile(i_tile, p_lengths, p_cu_seqlens, batches, tokens, TILE: tl.constexpr):
    """The place of tile i_tile, TILE neighbouring tokens of one sequence: `sequences.locate_groups` for a single group.

    Tiles are numbered like its groups, with TILE for GROUP, so that `sequences.group_count` tells how many there are
    without knowing the lengths of packed sequences. Here the sequence is found by counting how many of the first tiles
    are not past ours, 512 sequences a round: one trip to memory where a search makes one a halving, and a program can
    do nothing before.

    Returns:
        i_sequence: int32, the sequence's number.
        i_batch: int64, its row of tokens (0 in the packed form).
        i_token: int64, its first token in that row.
        tile: three int32 numbers: the tile's first position in its sequence; how many tokens the sequence has; how many
            positions have a place in memory. The latter two are 0 where there is no tile.
    """
    if p_cu_seqlens is None:
        tiles = (tokens + TILE - 1) // TILE
        i_sequence = i_tile // tiles
        room = tl.where(i_sequence < batches, tokens, 0)
        length = room
        if p_lengths is not None:
            length = tl.load(p_lengths + i_sequence, mask=i_sequence < batches, other=0)
            length = tl.minimum(tl.maximum(length, 0), room)
        i_batch = i_sequence.to(tl.int64)
        return i_sequence, i_batch, i_batch * 0, (i_tile % tiles * TILE, length, room)
    else:
        i_sequence = i_tile * 0
        for i_first in range(1, batches, 512):  # the first sequence starts at 0 whatever cu_seqlens[0] holds
            o_sequence = i_first + tl.arange(0, 512)
            b_start = tl.load(p_cu_seqlens + o_sequence, mask=o_sequence < batches, other=0)
            b_start = tl.minimum(tl.maximum(b_start, 0), tokens).to(tl.int64)
            m_before = (b_start + o_sequence.to(tl.int64) * (TILE - 1)) // TILE <= i_tile
            i_sequence += tl.sum((m_before & (o_sequence < batches)).to(tl.int32), axis=0)
        start = tl.load(p_cu_seqlens + i_sequence, mask=i_sequence > 0, other=0)
        end = tl.load(p_cu_seqlens + i_sequence + 1, mask=i_sequence < batches - 1, other=tokens)
        start = tl.minimum(tl.maximum(start, 0), tokens)
        end = tl.minimum(tl.maximum(end, start), tokens)
        i_start_tile = (start.to(tl.int64) + i_sequence.to(tl.int64) * (TILE - 1)) // TILE
        i_position = (i_tile - i_start_tile) * TILE
        m_tile = (i_position >= 0) & (i_position < end - start)
        length = tl.where(m_tile, end - start, 0)
        i_position = tl.where(m_tile, i_position, 0).to(tl.int32)
        i_token = start.to(tl.int64)
        return i_sequence, i_token * 0, i_token, (i_position, length, length)
