"""Products of matrices in full precision: what goes in is not rounded to fewer digits, sums are WIDE."""

import triton
import triton.language as tl

_INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def add_product(b_sum, b_left, b_right, WIDE: tl.constexpr):
    """sum [M, N] + left [M, K] · right [K, N]; None for a sum of nothing."""
    if _INTERPRETED and b_left.dtype == tl.bfloat16:  # whose bits Triton's interpreter would multiply as integers
        b_left, b_right = b_left.to(WIDE), b_right.to(WIDE)
    return tl.dot(b_left, b_right, b_sum, input_precision="ieee", out_dtype=WIDE)
