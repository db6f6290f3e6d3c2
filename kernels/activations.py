"""Activations and their derivatives, in fp32 through one exponential each.

ACTIVATION is None or a name from `bertkernels.ops.bias_activation`. HALF: x came in 16 bits, and so will what comes of
it go out; then a relative error of about 1e-5 saves a third of the instructions, which count where they are as many as
memory has time for (an H200: some 27 in the time in which 2 bytes are read and 2 written). Without HALF these are
the formulas of csrc/cpu/activations.h. Numbers that are none stay so.
"""

import triton
import triton.language as tl


@triton.jit
def activate(b_x, ACTIVATION: tl.constexpr, HALF: tl.constexpr):
    """activation(x), elementwise, in fp32 or fp64."""
    if ACTIVATION is None:
        return b_x
    elif ACTIVATION == "relu":
        return tl.where(b_x < 0, 0.0, b_x)
    elif ACTIVATION == "gelu":
        return _gelu(b_x, HALF)
    elif ACTIVATION == "gelu_tanh":
        b_value, _ = _logistic(_cubic(b_x), HALF)
        return b_x * b_value
    elif ACTIVATION == "tanh":
        return _tanh(b_x, HALF)
    elif ACTIVATION == "sigmoid":
        b_value, _ = _logistic(b_x, HALF)
        return b_value
    elif ACTIVATION == "leaky_relu":
        return tl.where(b_x < 0, b_x * 0.01, b_x)
    elif ACTIVATION == "elu":
        return tl.where(b_x < 0, -_lost(tl.abs(b_x)), b_x)
    else:
        tl.static_assert(ACTIVATION == "swish")
        b_value, _ = _logistic(b_x, HALF)
        return b_x * b_value


@triton.jit
def differentiate(b_grad, b_x, ACTIVATION: tl.constexpr, HALF: tl.constexpr):
    """grad times the activation's derivative at x."""
    if ACTIVATION is None:
        return b_grad
    elif ACTIVATION == "relu":
        return tl.where(b_x <= 0, 0.0, b_grad)
    elif ACTIVATION == "gelu":
        return b_grad * _gelu_slope(b_x, HALF)
    elif ACTIVATION == "gelu_tanh":
        b_value, b_slope = _logistic(_cubic(b_x), HALF)
        b_cubic_slope = b_x * b_x * 0.21406444881780076 + 1.5957691216057308
        return b_grad * (b_x * b_slope * b_cubic_slope + b_value)
    elif ACTIVATION == "tanh":
        _, b_slope = _logistic(b_x * 2, HALF)
        return b_grad * b_slope * 4
    elif ACTIVATION == "sigmoid":
        _, b_slope = _logistic(b_x, HALF)
        return b_grad * b_slope
    elif ACTIVATION == "leaky_relu":
        return tl.where(b_x <= 0, b_grad * 0.01, b_grad)
    elif ACTIVATION == "elu":
        return tl.where(b_x < 0, b_grad * tl.exp(-tl.abs(b_x)), b_grad)
    else:
        tl.static_assert(ACTIVATION == "swish")
        b_value, b_slope = _logistic(b_x, HALF)
        return b_grad * (b_x * b_slope + b_value)


@triton.jit
def _inverse(b_x, HALF: tl.constexpr):
    """1 / x for x ≥ 1; HALF: to 3e-7, in a fraction of a division's instructions."""
    if HALF:
        b_root = tl.rsqrt(b_x)
        return b_root * b_root
    else:
        return 1.0 / b_x


@triton.jit
def _cubic(b_x):
    """The argument of gelu_tanh's logistic: 2·√(2/π)·(x + 0.044715·x³)."""
    return b_x * (b_x * b_x * 0.07135481627260025 + 1.5957691216057308)


@triton.jit
def _logistic(b_x, HALF: tl.constexpr):
    """1 / (1 + e^-x) and its derivative, both exact where they are small."""
    b_exp = tl.exp(-tl.abs(b_x))
    b_share = _inverse(b_exp + 1.0, HALF)
    b_small = b_exp * b_share
    return tl.where(b_x < 0, b_small, b_share), b_small * b_share


@triton.jit
def _lost(b_far):
    """1 - e^-a for a ≥ 0 without cancellation."""
    b_exp = tl.exp(-b_far)
    if b_far.dtype == tl.float64:
        # for u = e^y as rounded: (u - 1) · y / log u (Kahan)
        b_less = tl.where(b_exp == 1.0, 1.0, b_exp)
        b_log = tl.where(b_exp == 1.0, -1.0, tl.log(b_less))
        b_lost = tl.where(b_exp == 1.0, b_far, (1.0 - b_exp) * -b_far / b_log)
        return tl.where(b_exp == 0.0, 1.0, b_lost)
    else:
        # below 0.5 the series, to the term in a⁸
        b_p = 1.0 - b_far * (1 / 8)
        b_p = 1.0 - b_far * b_p * (1 / 7)
        b_p = 1.0 - b_far * b_p * (1 / 6)
        b_p = 1.0 - b_far * b_p * (1 / 5)
        b_p = 1.0 - b_far * b_p * (1 / 4)
        b_p = 1.0 - b_far * b_p * (1 / 3)
        b_p = 1.0 - b_far * b_p * (1 / 2)
        return tl.where(b_far < 0.5, b_far * b_p, 1.0 - b_exp)


@triton.jit
def _tanh(b_x, HALF: tl.constexpr):
    b_far = tl.abs(b_x)
    if b_x.dtype == tl.float64:
        b_tanh = _lost(2.0 * b_far) / (1.0 + tl.exp(-2.0 * b_far))
    else:
        # Below 0.55, where 1 - e^-2|x| would cancel, an odd polynomial (relative error 6e-8 as rounded here).
        b_exp = tl.exp(-2.0 * b_far)
        b_square = b_x * b_x
        b_p = b_square * -6.27260748e-3 + 2.10702531e-2
        b_p = b_p * b_square - 5.38518652e-2
        b_p = b_p * b_square + 1.333258e-1
        b_p = b_p * b_square - 3.33333164e-1
        b_tanh = tl.where(b_far < 0.55, b_far + b_far * (b_square * b_p), (1.0 - b_exp) * _inverse(b_exp + 1.0, HALF))
    return tl.where(b_x < 0, -b_tanh, b_tanh)


@triton.jit
def _normal_tail(b_far, HALF: tl.constexpr):
    """e^(-a²/2), and R with Φ(-a) = e^(-a²/2)·R, for a from 0 to 12.9.

    R falls slowly: a polynomial in 1 / (1 + a·constant), fitted to the least relative error (4.5e-7 as rounded here;
    HALF: 1.2e-5).
    """
    b_bell = tl.exp2(b_far * b_far * -0.72134752)
    if HALF:
        b_t = _inverse(b_far * 0.36 + 1.0, HALF)
        b_ratio = b_t * -9.92777273e-2 + 2.56401151e-1
        b_ratio = b_ratio * b_t + 3.31196934e-2
        b_ratio = b_ratio * b_t + 1.69617563e-1
        b_ratio = b_ratio * b_t + 1.39927104e-1
        b_ratio = b_ratio * b_t + 2.06834302e-4
    else:
        b_t = _inverse(b_far * 0.28125 + 1.0, HALF)
        b_ratio = b_t * 3.5886243e-2 - 1.96819474e-1
        b_ratio = b_ratio * b_t + 3.53452205e-1
        b_ratio = b_ratio * b_t - 2.06753373e-1
        b_ratio = b_ratio * b_t + 2.23064761e-1
        b_ratio = b_ratio * b_t + 5.88702297e-2
        b_ratio = b_ratio * b_t + 1.21032854e-1
        b_ratio = b_ratio * b_t + 1.1121966e-1
        b_ratio = b_ratio * b_t + 4.68467479e-5
    return b_bell, b_ratio


@triton.jit
def _gelu(b_x, HALF: tl.constexpr):
    """x·Φ(x), the same on both sides but for x itself: max(x, 0) - a·Φ(-a), a = |x|; past 12.9 nothing changes."""
    if b_x.dtype == tl.float64:
        return 0.5 * b_x * (1.0 + tl.erf(b_x * 0.70710678118654752440))
    else:
        b_far = tl.minimum(tl.abs(b_x), 12.9)
        b_bell, b_ratio = _normal_tail(b_far, HALF)
        return tl.maximum(b_x, 0.0, propagate_nan=tl.PropagateNan.ALL) - b_far * (b_bell * b_ratio)


@triton.jit
def _gelu_slope(b_x, HALF: tl.constexpr):
    """Φ(x) + x·φ(x), φ = e^(-x²/2) / √(2π): on the left Φ(-a) - a·φ(a), on the right one minus that."""
    if b_x.dtype == tl.float64:
        b_density = tl.exp(-0.5 * b_x * b_x) * 0.39894228040143267794
        return 0.5 * (1.0 + tl.erf(b_x * 0.70710678118654752440)) + b_x * b_density
    else:
        b_far = tl.minimum(tl.abs(b_x), 12.9, propagate_nan=tl.PropagateNan.ALL)
        b_bell, b_ratio = _normal_tail(b_far, HALF)
        b_left = b_bell * (b_ratio - b_far * 0.39894228)
        return tl.where(b_x < 0, b_left, 1.0 - b_left)
