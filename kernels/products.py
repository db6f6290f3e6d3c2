"""Products of matrices in full precision: what goes in is not rounded to fewer digits, sums are WIDE."""

import triton
import triton.language as tl

_INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def add_product(b_sum, b_left, b_right, WIDE: tl.constexpr):
    """sum [M, N] + left [M, K] · right [K, N]; None for a sum of nothing."""
    if _INTERPRETED:
        if b_left.dtype == tl.bfloat16:  # whose bits Triton's interpreter would multiply as integers
            b_left, b_right = b_left.to(WIDE), b_right.to(WIDE)
    elif b_left.dtype == tl.float64:
        b_left, b_right = without_history(b_left), without_history(b_right)
    return tl.dot(b_left, b_right, b_sum, input_precision="ieee", out_dtype=WIDE)


@triton.jit
def without_history(b_x):
    """The same numbers; what they were computed from, the compiler does not look into.

    Triton 3.6 lays out a product's operands by the narrowest number that they come from, be it the mask of a load, and
    has no code for what follows from that in fp64.
    """
    return tl.sum(tl.expand_dims(b_x, 2), axis=2)
