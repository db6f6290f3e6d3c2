"""The published ConvBERT sizes: channels of the encoder, heads that attend and as many that convolve, their width."""

from typing import NamedTuple


class Size(NamedTuple):
    C: int
    H: int
    D: int


SMALL, MEDIUM_SMALL, BASE = Size(256, 2, 64), Size(384, 4, 48), Size(768, 6, 64)
