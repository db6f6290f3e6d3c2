"""Dropout whose mask is a function of a seed and of each element's place: a backward pass draws it anew.

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): element i gets word
i % 4 of the block with counter i / 4 under the key `seed`. csrc/cpu/philox.h and Triton's `randint4x` are the same.
"""

import torch

_WORD = 0xFFFFFFFF


def draw_seed(device: torch.device) -> torch.Tensor:
    """A seed from torch's generator of this device: int64 [1], never read back."""
    return torch.randint(2**63 - 1, (1,), dtype=torch.int64, device=device)


def random_bits(seed: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """32 uniform bits for each element.

    Args:
        seed: int64 [1]. index: int64 ≥ 0, any shape.

    Returns:
        int64 of index's shape, 0 to 2³² - 1.
    """
    block = index >> 2
    zero = torch.zeros_like(block)
    c0, c1, c2, c3 = words(seed, block & _WORD, block >> 32, zero, zero)
    word = index & 3
    return torch.where(word < 2, torch.where(word == 0, c0, c1), torch.where(word == 2, c2, c3))


def words(
    seed: torch.Tensor, c0: torch.Tensor, c1: torch.Tensor, c2: torch.Tensor, c3: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The four words that Philox makes of each counter (c0, c1, c2, c3), under the key `seed`.

    Args:
        seed: int64 [1]. c0 … c3: int64, 0 to 2³² - 1, of shapes that broadcast; so are the results.
    """
    k0, k1 = seed & _WORD, (seed >> 32) & _WORD
    for _ in range(10):
        # Past 63 bits the products wrap around: their bits are those of the unsigned ones.
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (b >> 32 & _WORD) ^ c1 ^ k0, b & _WORD, (a >> 32 & _WORD) ^ c3 ^ k1, a & _WORD
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


def threshold(dropout_p: float) -> int:
    """Elements whose bits are below are dropped: dropout_p in units of 2⁻³²."""
    return min(round(dropout_p * 2**32), _WORD)
