"""`residual_norm`: what closes every sub-layer of a post-norm encoder: dropout, residual connection, LayerNorm."""

import math

import torch

from . import checks, dispatch, extension, philox, registry
from .bias_activation import as_matrix


def residual_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    eps: float = 1e-12,
    dropout_p: float = 0.0,
    impl: str | None = None,
) -> torch.Tensor:
    """LayerNorm(residual + dropout(x)) over the last dimension (Vaswani et al. 2017, §3.1, dropout as in §5.4).

        s = residual + dropout(x)        out = (s - mean(s)) / √(var(s) + eps) · weight + bias

    var is the mean of squares around the mean (Ba et al. 2016, "Layer Normalization"). Dropout sets an element to zero
    with probability dropout_p and divides the others by 1 - dropout_p. Its mask is a function of a seed, drawn from
    torch's generator of x's device, and of each element's place, the same for every implementation (`philox`).

    Args:
        x: […, C], a sub-layer's output, with a contiguous last dimension; leading dimensions that cannot be seen as one
            are copied.
        residual: […, C], likewise, of the same dtype and device: the sub-layer's input.
        weight, bias: [C], likewise.
        eps: BERT's 1e-12 unless given.
        dropout_p: from 0 to below 1; pass 0 outside training.
        impl: "cpu", "triton" or "reference"; None takes the best that can run.

    Returns:
        […, C], contiguous, of `x`'s dtype. Everything between is in fp32 (fp64 for fp64), mean before variance. The
        backward pass needs x, residual, and mean and rstd = 1 / √(var + eps) of every row; neither the sum nor the mask
        is kept.

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, eps or dropout_p do not fit.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    check("residual_norm", x, residual, weight, bias, eps, dropout_p)
    seed = philox.draw_seed(x.device) if dropout_p else None
    return residual_norm_op(x, residual, weight, bias, seed, eps, dropout_p, dispatch.requested(impl))[0]


def check(
    op: str,
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    dropout_p: float,
) -> None:
    """Raises where the arguments do not make a residual norm."""
    checks.tensor(op, "x", x, checks.ANY_RANK, "[…, C]")
    checks.companion(op, "residual", residual, x.shape, "x's shape", "x", x)
    for name, vector in (("weight", weight), ("bias", bias)):
        checks.companion(op, name, vector, x.shape[-1:], "one value a channel", "x", x)
    if not eps >= 0:
        raise ValueError(f"{op}: eps must not be negative, got {eps}")
    if not 0 <= dropout_p < 1:
        raise ValueError(f"{op}: dropout_p must be from 0 to below 1, got {dropout_p}")


# -- reference ---------------------------------------------------------------------------------------------------------


def residual_norm_reference(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    seed: torch.Tensor | None = None,
    eps: float = 1e-12,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """The specification of `residual_norm`, in plain torch operations; differentiable; in fp32 or fp64 throughout."""
    total = _sum(x, residual, seed, dropout_p)
    mean, rstd = _moments(total, eps)
    return ((total - mean) * rstd * weight.to(total.dtype) + bias.to(total.dtype)).to(x.dtype)


def residual_norm_backward_reference(
    grad: torch.Tensor,
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    seed: torch.Tensor | None = None,
    eps: float = 1e-12,
    dropout_p: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `residual_norm` with respect to x, residual, weight and bias, derived by hand."""
    total = _sum(x, residual, seed, dropout_p)
    return _gradients(grad, x, total, weight, *_moments(total, eps), seed, dropout_p)


def _gradients(grad, x, total, weight, mean, rstd, seed, dropout_p):
    grad = grad.to(total.dtype)
    normal = (total - mean) * rstd  # […, C]
    inner = grad * weight.to(total.dtype)
    slope = (inner * normal).mean(-1, keepdim=True)
    d_sum = rstd * (inner - inner.mean(-1, keepdim=True) - normal * slope)
    d_x = d_sum if seed is None else d_sum * _dropout_factors(x, seed, dropout_p)
    width = x.shape[-1]
    d_weight, d_bias = ((each.reshape(-1, width).sum(0)).to(x.dtype) for each in (grad * normal, grad))
    return d_x.to(x.dtype), d_sum.to(x.dtype), d_weight, d_bias


def _sum(x: torch.Tensor, residual: torch.Tensor, seed: torch.Tensor | None, dropout_p: float) -> torch.Tensor:
    accumulate = torch.promote_types(x.dtype, torch.float32)
    added = x.to(accumulate)
    if seed is not None:
        factors = _dropout_factors(x, seed, dropout_p)
        added = torch.where(factors == 0, 0, added * factors)  # what is dropped may be no number
    return residual.to(accumulate) + added


def _moments(total: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and 1 / √(variance + eps) of each row, […, 1]. A row of equal numbers has that number as its mean."""
    first = total.mean(-1, keepdim=True)
    mean = first + (total - first).mean(-1, keepdim=True)
    return mean, torch.rsqrt((total - mean).square().mean(-1, keepdim=True) + eps)


def _dropout_factors(x: torch.Tensor, seed: torch.Tensor, dropout_p: float) -> torch.Tensor:
    """Of x's shape, in fp32 or fp64: 0 for what is dropped, 1 / (1 - dropout_p) for the rest.

    Element c of row m has the index m·(C rounded up to a multiple of 4) + c: a row begins with a block of its own.
    """
    rows, width = math.prod(x.shape[:-1]), x.shape[-1]
    row = torch.arange(rows, device=x.device)[:, None] * (-(-width // 4) * 4)  # [M, 1]
    bits = philox.random_bits(seed, row + torch.arange(width, device=x.device))  # [M, C]
    kept = (bits >= philox.threshold(dropout_p)).to(torch.promote_types(x.dtype, torch.float32))
    return (kept / (1 - dropout_p)).view(x.shape)


# -- the registered op: (x, residual, weight, bias, seed, eps, dropout_p, impl) -> (out, moments) ----------------------
# The moments are mean and 1 / √(var + eps) of every row, [M, 2], in fp32 or fp64.
#
# What to keep for the backward pass, in tensors of x's size that go through memory (without dropout; with it one more
# is written in either case):
#     the sum, x + residual      forward 2 in, 2 out    backward 2 in, 1 out    7 in all; forward alone 4
#     x and residual             forward 2 in, 1 out    backward 3 in, 1 out    7 in all; forward alone 3
# Either way one more tensor stays alive than without this op, for the residual is the sub-layer's input, kept by its
# first product. So x and residual are kept: a forward pass that no gradient is asked of, or that a checkpoint repeats,
# is cheaper, and the sum that gradients start from is not rounded. The output could be turned back into what was
# normalised, but not where a weight is zero.


def _forward(x, residual, weight, bias, seed, eps, dropout_p, impl):
    # Under autocast dtypes are only settled here: fp64 tensors keep theirs.
    for name, tensor in (("residual", residual), ("weight", weight), ("bias", bias)):
        checks.alike("residual_norm", name, tensor, "x", x)
    rows, out = as_matrix(x), extension.empty_like(x)  # [M, C]
    moments = rows.new_empty((rows.shape[0], 2), dtype=torch.promote_types(x.dtype, torch.float32))
    launch = launch_forward.select(x.device.type, impl)
    if out.numel():
        launch(as_matrix(out), moments, rows, as_matrix(residual), weight, bias, seed, eps, dropout_p)
    else:
        moments.zero_()
    return out, moments


def _forward_fake(x, residual, weight, bias, seed, eps, dropout_p, impl):
    accumulate = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(x.shape), x.new_empty((math.prod(x.shape[:-1]), 2), dtype=accumulate)


def _backward(grad, x, residual, weight, seed, moments, dropout_p, wanted, impl):
    gradients = _backward_fake(grad, x, residual, weight, seed, moments, dropout_p, wanted, impl)
    d_x, d_residual, d_weight, d_bias = gradients
    launch = launch_backward.select(x.device.type, impl)
    if x.numel():
        inputs = (as_matrix(x), as_matrix(residual), weight, seed, moments, dropout_p)
        launch(as_matrix(d_x), as_matrix(d_residual), d_weight, d_bias, as_matrix(grad.to(x.dtype)), *inputs)
    else:
        d_weight.zero_(), d_bias.zero_()
    return gradients


def _backward_fake(grad, x, residual, weight, seed, moments, dropout_p, wanted, impl):
    """Those that are not wanted are empty. Without dropout d_x is d_residual, which is made if either is wanted."""
    first, second = (wanted[0], wanted[1]) if seed is not None else (False, wanted[0] or wanted[1])
    return (
        x.new_empty(x.shape if first else 0),
        x.new_empty(x.shape if second else 0),
        x.new_empty(weight.shape if wanted[2] else 0),
        x.new_empty(weight.shape if wanted[3] else 0),
    )


# -- launchers: one an implementation ----------------------------------------------------------------------------------


def _shape(x, seed, dropout_p):
    """M, C and the dtype's number, and the dropout, as the compiled code takes them."""
    return (*x.shape, extension.DTYPES[x.dtype]), (0 if seed is None else seed.data_ptr(), *_dropout(dropout_p))


def _dropout(dropout_p):
    """Below which bits elements are dropped, and by what the others are multiplied."""
    return philox.threshold(dropout_p), 1 / (1 - dropout_p)


def _cpu_forward(out, moments, x, residual, weight, bias, seed, eps, dropout_p):
    extension.C.residual_norm_forward_cpu(
        *_shape(x, seed, dropout_p),
        eps,
        extension.operand(x),
        extension.operand(residual),
        weight.data_ptr(),
        bias.data_ptr(),
        extension.operand(out),
        moments.data_ptr(),
        torch.get_num_threads(),
    )


def _cpu_backward(d_x, d_residual, d_weight, d_bias, grad, x, residual, weight, seed, moments, dropout_p):
    extension.C.residual_norm_backward_cpu(
        *_shape(x, seed, dropout_p),
        extension.operand(grad),
        extension.operand(x),
        extension.operand(residual),
        weight.data_ptr(),
        moments.data_ptr(),
        *(extension.operand(gradient) if gradient.numel() else (0, 0) for gradient in (d_x, d_residual)),
        *(gradient.data_ptr() if gradient.numel() else 0 for gradient in (d_weight, d_bias)),
        torch.get_num_threads(),
    )


def _triton_forward(out, moments, x, residual, weight, bias, seed, eps, dropout_p):
    from bertkernels.kernels import residual_norm as kernel

    kernel.forward(out, moments, x, residual, weight, bias, seed, *_dropout(dropout_p), eps)


def _triton_backward(d_x, d_residual, d_weight, d_bias, grad, x, residual, weight, seed, moments, dropout_p):
    from bertkernels.kernels import residual_norm as kernel

    outputs = (d_x, d_residual, d_weight, d_bias)
    wanted = [gradient if gradient.numel() else None for gradient in outputs]
    if any(gradient is not None for gradient in wanted):
        kernel.backward(*wanted, grad, x, residual, weight, seed, *_dropout(dropout_p), moments)


def _reference_forward(out, moments, x, residual, weight, bias, seed, eps, dropout_p):
    out.copy_(residual_norm_reference(x, residual, weight, bias, seed, eps, dropout_p))
    moments.copy_(torch.cat(_moments(_sum(x, residual, seed, dropout_p), eps), -1))


def _reference_backward(d_x, d_residual, d_weight, d_bias, grad, x, residual, weight, seed, moments, dropout_p):
    total = _sum(x, residual, seed, dropout_p)
    computed = _gradients(grad, x, total, weight, moments[:, :1], moments[:, 1:], seed, dropout_p)
    for gradient, value in zip((d_x, d_residual, d_weight, d_bias), computed, strict=True):
        if gradient.numel():
            gradient.copy_(value)


launch_forward = dispatch.Launchers(
    "residual_norm", {"cpu": _cpu_forward, "triton": _triton_forward, "reference": _reference_forward}
)
launch_backward = dispatch.Launchers(
    "residual_norm", {"cpu": _cpu_backward, "triton": _triton_backward, "reference": _reference_backward}
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

residual_norm_op = registry.register(
    "residual_norm",
    "(Tensor x, Tensor residual, Tensor weight, Tensor bias, Tensor? seed, float eps, float dropout_p, str impl)"
    " -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
residual_norm_backward_op = registry.register(
    "residual_norm_backward",
    "(Tensor grad, Tensor x, Tensor residual, Tensor weight, Tensor? seed, Tensor moments, float dropout_p, "
    "bool[4] wanted, str impl) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    autocast=False,  # the moments are fp32 beside tensors of any dtype
)


def _setup_context(ctx, inputs, output):
    x, residual, weight, _, seed, _, ctx.dropout_p, ctx.impl = inputs
    _, moments = output
    ctx.mark_non_differentiable(moments)
    ctx.set_materialize_grads(False)  # or zeros would be made for their gradient
    ctx.save_for_backward(x, residual, weight, seed, moments)


def _autograd_backward(ctx, grad, _):
    if grad is None:
        return None, None, None, None, None, None, None, None
    wanted = list(ctx.needs_input_grad[:4])
    d_x, *others = residual_norm_backward_op(grad, *ctx.saved_tensors, ctx.dropout_p, wanted, ctx.impl)
    gradients = (d_x if ctx.dropout_p else others[0], *others)
    taken = (gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))
    return *taken, None, None, None, None


residual_norm_op.differentiate(_autograd_backward, _setup_context)
