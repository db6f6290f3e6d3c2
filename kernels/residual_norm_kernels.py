"""Triton kernels of `residual_norm`: dropout, residual connection and LayerNorm, forward and backward, a pass each.

A program takes ROWS rows at a time, a warp a row, so that a row's sums need shuffles only. A row stands in registers,
in PARTS of which a warp reads each at once, 16 bytes a thread; wider rows (PARTS empty) are read CHUNK columns at a
time, anew for each step of the computation, from the cache. Backward, a program takes a block of rows and sums up the
block's share of the weights' gradients.

Bytes moved, N elements of s bytes; in brackets N = 32·512·768, bf16:
    forward   3·s·N: x and residual in, out out                                     [75.5 MB]
    backward  4·s·N: grad, x and residual in, d_residual out; with dropout also d_x  [100.7, with dropout 125.8 MB]
Sum and mask are not kept, see bertkernels/ops/residual_norm.py. Drawing the mask takes about 25 instructions an
element, for each block of four words serves four elements; an H200 has time for about 40 forward.

What the functions here hand each other:
    rows     (p_x, p_residual, i_row, m_row): pointers to the rows of x and residual, the rows' numbers (int64) and
             which there are, [ROWS] each
    dropout  (seed, threshold, scale); empty for no dropout
"""

import triton
import triton.language as tl

from .channels import load_channels, store_channels
from .launch import program_index


@triton.jit
def rows_from(p_x, p_residual, i_first, end, stride_x, stride_residual, UNIT: tl.constexpr, ROWS: tl.constexpr):
    """`rows` from number i_first on, those before `end`."""
    i_row = (i_first + tl.arange(0, ROWS)).to(tl.int64)  # [ROWS]
    return p_x + i_row * stride_x * UNIT, p_residual + i_row * stride_residual * UNIT, i_row, i_row < end


@triton.jit
def dropout_of(p_seed, threshold, scale, WIDE: tl.constexpr):
    if p_seed is None:
        return ()
    else:
        return tl.load(p_seed), threshold.to(tl.uint32), tl.full([], scale, WIDE)


@triton.jit
def drop(b_x, dropout, i_row, i_c, C: tl.constexpr, COUNT: tl.constexpr, ROWS: tl.constexpr):
    """Columns i_c, … of the rows, [ROWS, COUNT]: 0 for what is dropped, and the rest scaled.

    i_c is a multiple of COUNT, COUNT one of 4. Four columns share a block of random words; rows begin with a new one.
    """
    if len(dropout) == 0:
        return b_x
    else:
        seed, threshold, scale = dropout
        o_block = i_c // 4 + tl.arange(0, COUNT // 4)  # [COUNT / 4]
        b_0, b_1, b_2, b_3 = tl.randint4x(seed, i_row[:, None] * ((C + 3) // 4) + o_block[None, :])
        b_even = tl.join(b_0 >= threshold, b_2 >= threshold)  # [ROWS, COUNT / 4, 2]
        b_odd = tl.join(b_1 >= threshold, b_3 >= threshold)
        b_kept = tl.reshape(tl.join(b_even, b_odd), (ROWS, COUNT))
        return tl.where(b_kept, b_x * scale, 0.0)


@triton.jit
def load_sum(rows, dropout, i_c, C: tl.constexpr, COUNT: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr):
    """residual + dropout(x), columns i_c, … of the rows; zeros past the last column: [ROWS, COUNT]."""
    p_x, p_residual, i_row, m_row = rows
    o_c = i_c + tl.arange(0, COUNT)  # [COUNT]
    b_x = load_channels(p_x, m_row, o_c, C, COUNT, WIDE)
    b_residual = load_channels(p_residual, m_row, o_c, C, COUNT, WIDE)
    return b_residual + drop(b_x, dropout, i_row, i_c, C, COUNT, ROWS)


@triton.jit
def difference(b_sum, b_mean, i_c, C: tl.constexpr, COUNT: tl.constexpr):
    """sum - mean, 0 past the last column."""
    b_difference = b_sum - b_mean[:, None]  # [ROWS, COUNT]
    if C % COUNT != 0:
        b_difference = tl.where((i_c + tl.arange(0, COUNT) < C)[None, :], b_difference, 0.0)
    return b_difference


@triton.jit
def load_vector(p, i_c, C: tl.constexpr, COUNT: tl.constexpr, WIDE: tl.constexpr):
    """Columns i_c, … of weight or bias: [1, COUNT]."""
    o_c = i_c + tl.arange(0, COUNT)  # [COUNT]
    if C % COUNT == 0:
        return tl.load(p + o_c).to(WIDE)[None, :]
    else:
        return tl.load(p + o_c, mask=o_c < C, other=0.0).to(WIDE)[None, :]


@triton.jit
def moments_of(b_first, b_shifts, b_squares, eps, C: tl.constexpr, WIDE: tl.constexpr):
    """Mean and 1 / √(variance + eps), from sums of differences to a first mean and of their squares: [ROWS] each.

    The differences make the rounding of the first mean good: a row of equal numbers comes out as zeros, not as noise
    times 1 / √eps.
    """
    b_shift = b_shifts / C
    b_variance = tl.maximum(b_squares / C - b_shift * b_shift, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return b_first + b_shift, 1.0 / tl.sqrt(b_variance + tl.full([], eps, WIDE))


@triton.jit(
    do_not_specialize=["p_seed", "rows", "threshold", "scale", "eps", "stride_out", "stride_x", "stride_residual"]
)
def residual_norm_fwd_kernel(
    p_out,
    p_moments,
    p_x,
    p_residual,
    p_weight,
    p_bias,
    p_seed,
    rows: tl.int64,
    threshold: tl.int64,
    scale: tl.float64,
    eps: tl.float64,
    stride_out: tl.int64,
    stride_x: tl.int64,
    stride_residual: tl.int64,
    UNIT: tl.constexpr,
    C: tl.constexpr,
    PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes LayerNorm(residual + dropout(x)) [rows, C] and each row's mean and 1 / √(variance + eps) [rows, 2]."""
    dropout = dropout_of(p_seed, threshold, scale, WIDE)
    i_first = program_index().to(tl.int64) * ROWS
    place = rows_from(p_x, p_residual, i_first, rows, stride_x, stride_residual, UNIT, ROWS)
    _, _, i_row, m_row = place
    b_total, b_shifts, b_squares = (tl.zeros([ROWS], dtype=WIDE),) * 3
    b_sums = ()
    if len(PARTS) > 0:
        for j in tl.static_range(len(PARTS)):
            b_sum = load_sum(place, dropout, PARTS[j][0], C, PARTS[j][1], ROWS, WIDE)  # [ROWS, part]
            b_total += tl.sum(b_sum, axis=1)
            b_sums += (b_sum,)
        for j in tl.static_range(len(PARTS)):
            b_difference = difference(b_sums[j], b_total / C, PARTS[j][0], C, PARTS[j][1])
            b_shifts += tl.sum(b_difference, axis=1)
            b_squares += tl.sum(b_difference * b_difference, axis=1)
    else:
        for i_c in range(0, C, CHUNK):
            b_total += tl.sum(load_sum(place, dropout, i_c, C, CHUNK, ROWS, WIDE), axis=1)
        for i_c in range(0, C, CHUNK):
            b_sum = load_sum(place, dropout, i_c, C, CHUNK, ROWS, WIDE)  # [ROWS, CHUNK]
            b_difference = difference(b_sum, b_total / C, i_c, C, CHUNK)
            b_shifts += tl.sum(b_difference, axis=1)
            b_squares += tl.sum(b_difference * b_difference, axis=1)
    b_mean, b_rstd = moments_of(b_total / C, b_shifts, b_squares, eps, C, WIDE)  # [ROWS]
    tl.store(p_moments + i_row * 2, b_mean, mask=m_row)
    tl.store(p_moments + i_row * 2 + 1, b_rstd, mask=m_row)

    p_out_row = p_out + i_row * stride_out * UNIT  # [ROWS]
    if len(PARTS) > 0:
        for j in tl.static_range(len(PARTS)):
            b_weight = load_vector(p_weight, PARTS[j][0], C, PARTS[j][1], WIDE)  # [1, part]
            b_bias = load_vector(p_bias, PARTS[j][0], C, PARTS[j][1], WIDE)
            b_out = (b_sums[j] - b_mean[:, None]) * b_rstd[:, None] * b_weight + b_bias
            o_c = PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
            store_channels(p_out_row, b_out, m_row, o_c, C, PARTS[j][1])
    else:
        for i_c in range(0, C, CHUNK):
            b_sum = load_sum(place, dropout, i_c, C, CHUNK, ROWS, WIDE)  # [ROWS, CHUNK]
            b_weight = load_vector(p_weight, i_c, C, CHUNK, WIDE)  # [1, CHUNK]
            b_bias = load_vector(p_bias, i_c, C, CHUNK, WIDE)
            b_out = (b_sum - b_mean[:, None]) * b_rstd[:, None] * b_weight + b_bias
            store_channels(p_out_row, b_out, m_row, i_c + tl.arange(0, CHUNK), C, CHUNK)


@triton.jit
def load_normal(
    rows,
    dropout,
    moments,
    p_grad_row,
    i_c,
    C: tl.constexpr,
    COUNT: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """What was multiplied by the weight, (sum - mean) · rstd, and the gradient of the output: [ROWS, COUNT] each."""
    b_mean, b_rstd = moments
    _, _, _, m_row = rows
    b_sum = load_sum(rows, dropout, i_c, C, COUNT, ROWS, WIDE)
    b_grad = load_channels(p_grad_row, m_row, i_c + tl.arange(0, COUNT), C, COUNT, WIDE)
    return difference(b_sum, b_mean, i_c, C, COUNT) * b_rstd[:, None], b_grad


@triton.jit
def store_gradients(
    p_d_x_row,
    p_d_residual_row,
    b_d_sum,
    dropout,
    i_row,
    m_row,
    i_c,
    C: tl.constexpr,
    COUNT: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Writes columns i_c, … of the gradients of the rows of residual and x, each None where not wanted."""
    o_c = i_c + tl.arange(0, COUNT)  # [COUNT]
    if p_d_residual_row is not None:
        store_channels(p_d_residual_row, b_d_sum, m_row, o_c, C, COUNT)
    if p_d_x_row is not None:
        store_channels(p_d_x_row, drop(b_d_sum, dropout, i_row, i_c, C, COUNT, ROWS), m_row, o_c, C, COUNT)


@triton.jit(
    do_not_specialize=["p_seed", "rows", "span", "blocks", "threshold", "scale"]
    + ["stride_d_x", "stride_d_residual", "stride_grad", "stride_x", "stride_residual"]
)
def residual_norm_bwd_kernel(
    p_d_x,
    p_d_residual,
    p_shares,
    p_grad,
    p_x,
    p_residual,
    p_weight,
    p_moments,
    p_seed,
    rows: tl.int64,
    span: tl.int64,
    blocks: tl.int32,
    threshold: tl.int64,
    scale: tl.float64,
    stride_d_x: tl.int64,
    stride_d_residual: tl.int64,
    stride_grad: tl.int64,
    stride_x: tl.int64,
    stride_residual: tl.int64,
    UNIT: tl.constexpr,
    C: tl.constexpr,
    PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes d_x and d_residual [rows, C], and of each block of `span` rows its share of d_weight and d_bias [2, C].

    With h = grad · weight and normal as in `load_normal`: d_residual = rstd · (h - mean h - normal · mean(h · normal)).
    What is None is not wanted.
    """
    dropout = dropout_of(p_seed, threshold, scale, WIDE)
    i_block = program_index().to(tl.int64)
    i_end = tl.minimum((i_block + 1) * span, rows)
    b_d_weights, b_d_biases = (), ()
    for j in tl.static_range(len(PARTS)):
        b_d_weights += (tl.full([ROWS, PARTS[j][1]], 0.0, WIDE),)
        b_d_biases += (tl.full([ROWS, PARTS[j][1]], 0.0, WIDE),)

    for i_first in range(i_block * span, i_end, ROWS):
        place = rows_from(p_x, p_residual, i_first, i_end, stride_x, stride_residual, UNIT, ROWS)
        _, _, i_row, m_row = place
        b_mean = tl.load(p_moments + i_row * 2, mask=m_row, other=0.0)  # [ROWS]
        b_rstd = tl.load(p_moments + i_row * 2 + 1, mask=m_row, other=0.0)
        p_grad_row = p_grad + i_row * stride_grad * UNIT
        p_d_x_row, p_d_residual_row = None, None
        if p_d_x is not None:
            p_d_x_row = p_d_x + i_row * stride_d_x * UNIT
        if p_d_residual is not None:
            p_d_residual_row = p_d_residual + i_row * stride_d_residual * UNIT
        b_inner, b_slope = (tl.zeros([ROWS], dtype=WIDE),) * 2
        if len(PARTS) > 0:
            b_normals, b_scaled, b_added_weights, b_added_biases = (), (), (), ()
            for j in tl.static_range(len(PARTS)):
                b_normal, b_grad = load_normal(
                    place, dropout, (b_mean, b_rstd), p_grad_row, PARTS[j][0], C, PARTS[j][1], ROWS, WIDE
                )
                b_h = b_grad * load_vector(p_weight, PARTS[j][0], C, PARTS[j][1], WIDE)  # [ROWS, part]
                b_inner += tl.sum(b_h, axis=1)
                b_slope += tl.sum(b_h * b_normal, axis=1)
                b_normals += (b_normal,)
                b_scaled += (b_h,)
                b_added_weights += (b_d_weights[j] + b_grad * b_normal,)
                b_added_biases += (b_d_biases[j] + b_grad,)
            b_d_weights, b_d_biases = b_added_weights, b_added_biases
            for j in tl.static_range(len(PARTS)):
                b_d_sum = b_scaled[j] - (b_inner / C)[:, None] - b_normals[j] * (b_slope / C)[:, None]
                b_d_sum *= b_rstd[:, None]
                store_gradients(
                    p_d_x_row, p_d_residual_row, b_d_sum, dropout, i_row, m_row, PARTS[j][0], C, PARTS[j][1], ROWS
                )
        else:
            for i_c in range(0, C, CHUNK):
                b_normal, b_grad = load_normal(place, dropout, (b_mean, b_rstd), p_grad_row, i_c, C, CHUNK, ROWS, WIDE)
                b_h = b_grad * load_vector(p_weight, i_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
                b_inner += tl.sum(b_h, axis=1)
                b_slope += tl.sum(b_h * b_normal, axis=1)
            for i_c in range(0, C, CHUNK):
                b_normal, b_grad = load_normal(place, dropout, (b_mean, b_rstd), p_grad_row, i_c, C, CHUNK, ROWS, WIDE)
                b_h = b_grad * load_vector(p_weight, i_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
                b_d_sum = (b_h - (b_inner / C)[:, None] - b_normal * (b_slope / C)[:, None]) * b_rstd[:, None]
                store_gradients(p_d_x_row, p_d_residual_row, b_d_sum, dropout, i_row, m_row, i_c, C, CHUNK, ROWS)

    if p_shares is not None:
        if i_block < blocks:
            p_share = p_shares + i_block * (2 * C)
            for j in tl.static_range(len(PARTS)):
                o_c = PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
                tl.store(p_share + o_c, tl.sum(b_d_weights[j], axis=0), mask=o_c < C)
                tl.store(p_share + C + o_c, tl.sum(b_d_biases[j], axis=0), mask=o_c < C)
            if len(PARTS) == 0:
                for i_c in range(0, C, CHUNK):
                    b_d_weight = tl.zeros([ROWS, CHUNK], dtype=WIDE)
                    b_d_bias = tl.zeros([ROWS, CHUNK], dtype=WIDE)
                    for i_first in range(i_block * span, i_end, ROWS):
                        place = rows_from(p_x, p_residual, i_first, i_end, stride_x, stride_residual, UNIT, ROWS)
                        _, _, i_row, m_row = place
                        b_mean = tl.load(p_moments + i_row * 2, mask=m_row, other=0.0)  # [ROWS]
                        b_rstd = tl.load(p_moments + i_row * 2 + 1, mask=m_row, other=0.0)
                        p_grad_row = p_grad + i_row * stride_grad * UNIT
                        b_normal, b_grad = load_normal(
                            place, dropout, (b_mean, b_rstd), p_grad_row, i_c, C, CHUNK, ROWS, WIDE
                        )
                        b_d_weight += b_grad * b_normal
                        b_d_bias += b_grad
                    o_c = i_c + tl.arange(0, CHUNK)  # [CHUNK]
                    tl.store(p_share + o_c, tl.sum(b_d_weight, axis=0), mask=o_c < C)
                    tl.store(p_share + C + o_c, tl.sum(b_d_bias, axis=0), mask=o_c < C)
