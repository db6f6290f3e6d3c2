"""Dropout of attention probabilities as a function of a seed and a probability's place, to be drawn anew in backward.

A probability has a number of 16 bits, is dropped where that is below `dropped` and else multiplied by
2¹⁶ / (2¹⁶ - dropped). The number is

    half (key mod 8) of Philox4x32-10(seed; query, ⌊key / 8⌋, head, sequence)

(Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), the low half of the first word first, query and key
counted from their sequence's start: neither tiles nor padding nor packing change it, and other implementations of
`attention` draw the same.
"""

import triton
import triton.language as tl

LEVELS = 65_536


def dropped_of(probability: float) -> int:
    """Of each 65,536 probabilities, how many are dropped."""
    return round(probability * LEVELS)


@triton.jit
def keep_scale(dropped, WIDE: tl.constexpr):
    """What kept probabilities are multiplied by; 0 where none are."""
    kept = 65536 - dropped
    return tl.where(kept > 0, 65536.0 / tl.maximum(kept, 1).to(WIDE), 0.0)


@triton.jit
def keep_mask(draw, dropped, i_query, i_key, QUERIES: tl.constexpr, KEYS: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Which probabilities of a tile are kept: [QUERIES, KEYS], or [KEYS, QUERIES] if TRANSPOSED.

    Args:
        draw: (seed, sequence, head).
        i_query, i_key: where the tile starts; i_key is a multiple of 8, as is KEYS.
    """
    seed, i_sequence, i_head = draw
    o_query = i_query + tl.arange(0, QUERIES)  # [QUERIES]
    o_eight = i_key // 8 + tl.arange(0, KEYS // 8)  # [KEYS / 8]
    if TRANSPOSED:
        b_query, b_eight = o_query[None, :], o_eight[:, None]
    else:
        b_query, b_eight = o_query[:, None], o_eight[None, :]
    # words [QUERIES, KEYS / 8] or [KEYS / 8, QUERIES]
    b_0, b_1, b_2, b_3 = tl.philox(seed, b_query, b_eight, i_head, i_sequence)
    b_words = tl.join(tl.join(b_0, b_2), tl.join(b_1, b_3))  # [..., 2, 2]: word 2·i + j
    b_numbers = tl.join(b_words & 0xFFFF, b_words >> 16).to(tl.int32)  # [..., 2, 2, 2]
    b_keep = b_numbers >= dropped
    if TRANSPOSED:
        return tl.reshape(tl.permute(b_keep, (0, 2, 3, 4, 1)), (KEYS, QUERIES))
    else:
        return tl.reshape(b_keep, (QUERIES, KEYS))
