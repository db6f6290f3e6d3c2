"""`glu`: the gated linear unit behind its two matrix products, in one pass over their results."""

import torch

from . import checks, dispatch, extension, registry
from .bias_activation import as_matrix, check_bias


def glu(
    left: torch.Tensor,
    gate: torch.Tensor,
    left_bias: torch.Tensor | None = None,
    gate_bias: torch.Tensor | None = None,
    *,
    impl: str | None = None,
) -> torch.Tensor:
    """(left + left_bias) · sigmoid(gate + gate_bias) (Dauphin et al. 2017, §2), the biases along the last dimension.

    The halves may be those of one product's result or of two. For the backward pass the output and the gate are kept:
    the output is what the next op keeps anyway, and has all of the left half that gradients need.

    Args:
        left, gate: […, C] with a contiguous last dimension; leading dimensions that cannot be seen as one are copied.
        left_bias, gate_bias: [C] of the same dtype and device, or None.
        impl: "cpu", "triton" or "reference"; None takes the best that can run.

    Returns:
        […, C], contiguous, of `left`'s dtype, computed in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: shapes, dtypes, devices or strides that do not fit.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    op = "glu"
    checks.tensor(op, "left", left, checks.ANY_RANK, "[…, C]")
    checks.tensor(op, "gate", gate, left.dim(), "[…, C]")
    checks.shape(op, "gate", gate, tuple(left.shape), "[…, C]")
    checks.alike(op, "gate", gate, "left", left)
    for name, bias in (("left_bias", left_bias), ("gate_bias", gate_bias)):
        if bias is not None:
            checks.companion(op, name, bias, left.shape[-1:], "one value a channel", "left", left)
    return glu_op(left, gate, left_bias, gate_bias, dispatch.requested(impl))


# -- reference ---------------------------------------------------------------------------------------------------------


def glu_reference(
    left: torch.Tensor,
    gate: torch.Tensor,
    left_bias: torch.Tensor | None = None,
    gate_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """The specification of `glu`, in plain torch operations; differentiable; in fp32 or fp64."""
    return (_argument(left, left_bias) * torch.sigmoid(_argument(gate, gate_bias))).to(left.dtype)


def glu_backward_reference(
    grad: torch.Tensor, out: torch.Tensor, gate: torch.Tensor, gate_bias: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `glu` with respect to left, gate, left_bias and gate_bias, derived by hand.

    With s = sigmoid: left · s'(gate) = left · s(gate) · (1 - s(gate)) = out · s(-gate).
    """
    argument = _argument(gate, gate_bias)
    grad, wide_out = grad.to(argument.dtype), out.to(argument.dtype)
    halves = grad * torch.sigmoid(argument), grad * wide_out * torch.sigmoid(-argument)
    sums = (half.reshape(-1, gate.shape[-1]).sum(0) for half in halves)
    return tuple(gradient.to(gate.dtype) for gradient in (*halves, *sums))


def _argument(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if bias is None else x + bias


# -- the registered op: (left, gate, left_bias, gate_bias, impl) -------------------------------------------------------


def _forward(left, gate, left_bias, gate_bias, impl):
    checks.alike("glu", "gate", gate, "left", left)  # under autocast only here: fp64 tensors keep their dtype
    check_bias("glu", left_bias, left.shape[-1], left)
    check_bias("glu", gate_bias, left.shape[-1], left)
    out = extension.empty_like(left)
    launch = launch_forward.select(left.device.type, impl)
    if out.numel():
        launch(as_matrix(out), as_matrix(left), as_matrix(gate), left_bias, gate_bias)
    return out


def _forward_fake(left, gate, left_bias, gate_bias, impl):
    return left.new_empty(left.shape)


def _backward(grad, out, gate, gate_bias, wanted, impl):
    gradients = _backward_fake(grad, out, gate, gate_bias, wanted, impl)
    d_left, d_gate, *d_biases = gradients
    launch = launch_backward.select(gate.device.type, impl)
    if gate.numel():
        inputs = (as_matrix(grad.to(gate.dtype)), as_matrix(out), as_matrix(gate))
        launch(as_matrix(d_left), as_matrix(d_gate), *d_biases, *inputs, gate_bias)
    else:
        for d_bias in d_biases:
            d_bias.zero_()
    return gradients


def _backward_fake(grad, out, gate, gate_bias, wanted, impl):
    """Of left, gate, left_bias and gate_bias; those that are not wanted are empty."""
    shapes = (gate.shape, gate.shape, gate.shape[-1:], gate.shape[-1:])
    return tuple(gate.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True))


# -- launchers: one an implementation ----------------------------------------------------------------------------------


def _cpu_forward(out, left, gate, left_bias, gate_bias):
    extension.C.glu_forward_cpu(
        _shape(left),
        extension.operand(left),
        extension.operand(gate),
        *(0 if bias is None else bias.data_ptr() for bias in (left_bias, gate_bias)),
        extension.operand(out),
        torch.get_num_threads(),
    )


def _cpu_backward(d_left, d_gate, d_left_bias, d_gate_bias, grad, out, gate, gate_bias):
    extension.C.glu_backward_cpu(
        _shape(gate),
        extension.operand(grad),
        extension.operand(out),
        extension.operand(gate),
        0 if gate_bias is None else gate_bias.data_ptr(),
        *(extension.operand(half) if half.numel() else (0, 0) for half in (d_left, d_gate)),
        *(sums.data_ptr() if sums.numel() else 0 for sums in (d_left_bias, d_gate_bias)),
        torch.get_num_threads(),
    )


def _shape(x):
    """M, C and the dtype's number, as the compiled code takes them."""
    return *x.shape, extension.DTYPES[x.dtype]


def _triton_forward(out, left, gate, left_bias, gate_bias):
    from bertkernels.kernels import glu as kernel

    kernel.forward(out, left, gate, left_bias, gate_bias)


def _triton_backward(d_left, d_gate, d_left_bias, d_gate_bias, grad, out, gate, gate_bias):
    from bertkernels.kernels import glu as kernel

    gradients = [x if x.numel() else None for x in (d_left, d_gate, d_left_bias, d_gate_bias)]
    if any(gradient is not None for gradient in gradients):
        kernel.backward(*gradients, grad, out, gate, gate_bias)


def _reference_forward(out, left, gate, left_bias, gate_bias):
    out.copy_(glu_reference(left, gate, left_bias, gate_bias))


def _reference_backward(d_left, d_gate, d_left_bias, d_gate_bias, grad, out, gate, gate_bias):
    computed = glu_backward_reference(grad, out, gate, gate_bias)
    for gradient, value in zip((d_left, d_gate, d_left_bias, d_gate_bias), computed, strict=True):
        if gradient.numel():
            gradient.copy_(value)


launch_forward = dispatch.Launchers(
    "glu", {"cpu": _cpu_forward, "triton": _triton_forward, "reference": _reference_forward}
)
launch_backward = dispatch.Launchers(
    "glu", {"cpu": _cpu_backward, "triton": _triton_backward, "reference": _reference_backward}
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

glu_op = registry.register(
    "glu",
    "(Tensor left, Tensor gate, Tensor? left_bias, Tensor? gate_bias, str impl) -> Tensor",
    _forward,
    _forward_fake,
)
glu_backward_op = registry.register(
    "glu_backward",
    "(Tensor grad, Tensor out, Tensor gate, Tensor? gate_bias, bool[4] wanted, str impl)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    autocast=False,
)


def _setup_context(ctx, inputs, output):
    _, gate, _, gate_bias, ctx.impl = inputs
    ctx.save_for_backward(output, gate, gate_bias)


def _autograd_backward(ctx, grad):
    wanted = list(ctx.needs_input_grad[:4])
    gradients = glu_backward_op(grad, *ctx.saved_tensors, wanted, ctx.impl)
    return *(gradient if want else None for gradient, want in zip(gradients, wanted, strict=True)), None


glu_op.differentiate(_autograd_backward, _setup_context)
