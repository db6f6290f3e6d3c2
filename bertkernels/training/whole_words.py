"""Which words to predict, where all pieces of a word are predicted or none.

Source: BERT's released code (`do_whole_word_mask`).
"""

import numpy as np
from transformers import PreTrainedTokenizerBase

from bertkernels.errors import InputError

_INSIDE = "##"  # what a WordPiece begins with inside of a word


def continuation_pieces(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Which ids are pieces inside of words: bool [V]. Raises InputError where none is."""
    vocabulary = tokenizer.get_vocab()
    inside = np.zeros(max(vocabulary.values()) + 1, dtype=bool)
    inside[[number for token, number in vocabulary.items() if token.startswith(_INSIDE)]] = True
    if not inside.any():
        raise InputError(f"--whole_word_masking needs a vocabulary of word pieces: none begins with {_INSIDE!r}")
    return inside


def choose_words(
    candidates: np.ndarray,
    inside: np.ndarray,
    uniforms: np.ndarray,
    counts: np.ndarray,
    slots: int,
    with_replacement: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of whole words, drawn uniformly until a row has as many as it wants.

    A word that would take a row past its count is passed over, so that a row may end up with fewer positions. A piece
    that follows no candidate is a word's first, wherever it was cut.

    Args:
        candidates: bool [B, T], where something may be predicted. inside: bool [B, T], pieces that belong to the word
            before them.
        uniforms: in [0, 1): [B, slots] with replacement, [B, T] without.
        counts: int [B], how many positions to choose, at most `slots`.

    Returns:
        positions int64 [B, slots], word by word and 0 in slots that are not used; how many each row has: int64 [B].
    """
    rows, width = candidates.shape
    follows = np.zeros_like(candidates)
    follows[:, 1:] = candidates[:, :-1]
    begins = candidates & ~(inside & follows)  # [B, T]
    words = begins.sum(axis=1)
    most = max(1, int(words.max(initial=0)))  # W
    number = np.cumsum(begins, axis=1) - 1  # [B, T], of the word that a candidate belongs to
    starts = np.zeros((rows, most), dtype=np.int64)
    row, place = np.nonzero(begins)
    starts[row, number[row, place]] = place
    row, place = np.nonzero(candidates)
    sizes = np.bincount(row * most + number[row, place], minlength=rows * most).reshape(rows, most)

    if with_replacement:
        order = np.floor(uniforms * words[:, None]).astype(np.int64)  # [B, slots]
    else:
        keys = np.where(np.arange(most) < words[:, None], np.take_along_axis(uniforms, starts, axis=1), 2.0)
        order = np.argsort(keys, axis=1, kind="stable")  # [B, W]
    starts, sizes = np.take_along_axis(starts, order, axis=1), np.take_along_axis(sizes, order, axis=1)

    total = np.zeros(rows, dtype=np.int64)
    taken = np.zeros(order.shape, dtype=bool)
    for draw in range(order.shape[1]):
        fits = (sizes[:, draw] > 0) & (total + sizes[:, draw] <= counts)
        taken[:, draw] = fits
        total += np.where(fits, sizes[:, draw], 0)
        if (total >= counts).all():
            break

    row, draw = np.nonzero(taken)
    lengths = sizes[row, draw]
    ends = np.cumsum(lengths)
    chosen = np.repeat(starts[row, draw] - (ends - lengths), lengths) + np.arange(lengths.sum())
    row = np.repeat(row, lengths)
    slot = np.arange(len(row)) - (np.cumsum(total) - total)[row]
    positions = np.zeros((rows, slots), dtype=np.int64)
    positions[row, slot] = chosen
    return positions, total
