"""`bias_activation`: what follows a matrix product in a feed-forward layer, in one pass over its output."""

import math
from collections.abc import Callable

import torch

from . import checks, dispatch, extension, registry


def bias_activation(
    x: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str | None = None,
    *,
    impl: str | None = None,
) -> torch.Tensor:
    """activation(x + bias), the bias along the last dimension.

    "gelu" is x·Φ(x) (Hendrycks and Gimpel 2016), "gelu_tanh" its approximation by a tanh that the original BERT code
    uses: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))). Below zero "leaky_relu" is 0.01·x and "elu" e^x - 1; "swish" is
    x·sigmoid(x). The backward pass computes x + bias anew: only x is kept.

    Args:
        x: […, C] with a contiguous last dimension; leading dimensions that cannot be seen as one are copied.
        bias: [C] of the same dtype and device, or None.
        activation: "gelu", "gelu_tanh", "relu", "tanh", "sigmoid", "leaky_relu", "elu", "swish", or None for the bias
            alone.
        impl: "cpu", "triton" or "reference"; None takes the best that can run.

    Returns:
        […, C], contiguous, of `x`'s dtype, computed in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: an unknown activation, or shapes, dtypes, devices or strides that do not fit.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    op = "bias_activation"
    checks.tensor(op, "x", x, checks.ANY_RANK, "[…, C]")
    check_bias(op, bias, x.shape[-1], x)
    check_activation(op, activation)
    return bias_activation_op(x, bias, activation, dispatch.requested(impl))


def check_bias(op: str, bias: torch.Tensor | None, width: int, x: torch.Tensor) -> None:
    """Raises where `bias` is neither None nor a vector that goes with an output of this width computed from `x`."""
    if bias is not None:
        checks.companion(op, "bias", bias, (width,), "one value an output channel", "x", x)


def check_activation(op: str, activation: str | None) -> None:
    if activation not in ACTIVATIONS:
        known = ", ".join(repr(name) for name in ACTIVATIONS)
        raise ValueError(f"{op}: activation must be one of {known}, got {activation!r}")


# -- reference ---------------------------------------------------------------------------------------------------------


def bias_activation_reference(
    x: torch.Tensor, bias: torch.Tensor | None = None, activation: str | None = None
) -> torch.Tensor:
    """The specification of `bias_activation`, in plain torch operations; differentiable; in fp32 or fp64."""
    function, _ = ACTIVATIONS[activation]
    return function(_argument(x, bias)).to(x.dtype)


def bias_activation_backward_reference(
    grad: torch.Tensor, x: torch.Tensor, bias: torch.Tensor | None = None, activation: str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `bias_activation` with respect to x and bias, derived by hand."""
    _, derivative = ACTIVATIONS[activation]
    argument = _argument(x, bias)
    d_x = grad.to(argument.dtype) * derivative(argument)
    return d_x.to(x.dtype), d_x.reshape(-1, x.shape[-1]).sum(0).to(x.dtype)


def _argument(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if bias is None else x + bias


def _normal_share(x: torch.Tensor) -> torch.Tensor:
    """Φ(x). Not by 1 + erf, as in torch's gelu and ndtr: it cancels in the left tail, where Φ has digits left."""
    return 0.5 * torch.special.erfc(x * -math.sqrt(0.5))


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return x * _normal_share(x)


def _gelu_derivative(x: torch.Tensor) -> torch.Tensor:
    density = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return _normal_share(x) + x * density


def _gelu_tanh_derivative(x: torch.Tensor) -> torch.Tensor:
    scale = math.sqrt(2 / math.pi)
    t = torch.tanh(scale * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * scale * (1 + 3 * 0.044715 * x * x)


def _tanh_derivative(x: torch.Tensor) -> torch.Tensor:
    t = torch.tanh(x)
    return 1 - t * t


def _sigmoid_derivative(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return s * (1 - s)


def _leaky_relu_derivative(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, torch.ones_like(x), 0.01)


def _elu_derivative(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(x.clamp(max=0))


def _swish_derivative(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return s + x * s * torch.sigmoid(-x)


def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh")


# name → function and derivative, in the order of the compiled code's numbers (csrc/activation.h)
ACTIVATIONS: dict[str | None, tuple[Callable, Callable]] = {
    None: (torch.clone, torch.ones_like),
    "gelu": (_gelu, _gelu_derivative),
    "gelu_tanh": (_gelu_tanh, _gelu_tanh_derivative),
    "relu": (torch.relu, lambda x: (x > 0).to(x.dtype)),
    "tanh": (torch.tanh, _tanh_derivative),
    "sigmoid": (torch.sigmoid, _sigmoid_derivative),
    "leaky_relu": (torch.nn.functional.leaky_relu, _leaky_relu_derivative),
    "elu": (torch.nn.functional.elu, _elu_derivative),
    "swish": (torch.nn.functional.silu, _swish_derivative),
}
_NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}


def activation_number(activation: str | None) -> int:
    """The compiled code's number of an activation."""
    return _NUMBERS[activation]


# -- the registered op: (x, bias, activation, impl) --------------------------------------------------------------------


def _forward(x, bias, activation, impl):
    if bias is not None:  # under autocast dtypes are only settled here: fp64 tensors keep theirs
        checks.alike("bias_activation", "bias", bias, "x", x)
    out = extension.empty_like(x)
    activate_into(as_matrix(out), as_matrix(x), bias, activation, impl)
    return out


def activate_into(
    out: torch.Tensor, x: torch.Tensor, bias: torch.Tensor | None, activation: str | None, impl: str
) -> None:
    """Writes activation(x + bias) into `out`, which may be `x` itself; both [M, C], last dimension contiguous."""
    launch = launch_forward.select(x.device.type, impl)
    if out.numel():
        launch(out, x, bias, activation)


def _forward_fake(x, bias, activation, impl):
    return x.new_empty(x.shape)


def _backward(grad, x, bias, activation, wanted, impl):
    d_x, d_bias = _backward_fake(grad, x, bias, activation, wanted, impl)
    grad = as_matrix(grad.to(x.dtype))
    differentiate_into(as_matrix(d_x), d_bias, grad, as_matrix(x), bias, activation, impl)
    return d_x, d_bias


def _backward_fake(grad, x, bias, activation, wanted, impl):
    """d_x and d_bias; those that are not wanted are empty."""
    return x.new_empty(x.shape if wanted[0] else 0), x.new_empty(x.shape[-1:] if wanted[1] else 0)


def differentiate_into(
    d_x: torch.Tensor,
    d_bias: torch.Tensor,
    grad: torch.Tensor,
    x: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    impl: str,
) -> None:
    """Writes the gradients into d_x [M, C] and d_bias [C]; what is empty is not computed. d_x may be grad itself."""
    launch = launch_backward.select(x.device.type, impl)
    if x.numel():
        launch(d_x, d_bias, grad, x, bias, activation)
    else:
        d_bias.zero_()


def as_matrix(x: torch.Tensor) -> torch.Tensor:
    """`x` […, C] as [M, C] with a contiguous last dimension: a view where its strides allow it."""
    rows = x.flatten(0, -2) if x.dim() > 2 else x if x.dim() == 2 else x[None]  # [M, C]
    return rows if rows.stride()[1] == 1 or x.shape[-1] == 1 else rows.contiguous()


# -- launchers: one an implementation ----------------------------------------------------------------------------------


def _cpu_forward(out, x, bias, activation):
    extension.C.bias_activation_forward_cpu(
        _shape(x, activation),
        extension.operand(x),
        0 if bias is None else bias.contiguous().data_ptr(),
        extension.operand(out),
        torch.get_num_threads(),
    )


def _cpu_backward(d_x, d_bias, grad, x, bias, activation):
    extension.C.bias_activation_backward_cpu(
        _shape(x, activation),
        extension.operand(grad),
        extension.operand(x),
        0 if bias is None else bias.contiguous().data_ptr(),
        extension.operand(d_x) if d_x.numel() else (0, 0),
        d_bias.data_ptr() if d_bias.numel() else 0,
        torch.get_num_threads(),
    )


def _shape(x, activation):
    """M, C, the activation's and the dtype's number, as the compiled code takes them."""
    return *x.shape, activation_number(activation), extension.DTYPES[x.dtype]


def _triton_forward(out, x, bias, activation):
    from bertkernels.kernels import bias_activation as kernel

    kernel.forward(out, x, bias, activation)


def _triton_backward(d_x, d_bias, grad, x, bias, activation):
    from bertkernels.kernels import bias_activation as kernel

    d_x, d_bias = (gradient if gradient.numel() else None for gradient in (d_x, d_bias))
    if d_x is not None or d_bias is not None:
        kernel.backward(d_x, d_bias, grad, x, bias, activation)


def _reference_forward(out, x, bias, activation):
    out.copy_(bias_activation_reference(x, bias, activation))


def _reference_backward(d_x, d_bias, grad, x, bias, activation):
    computed = bias_activation_backward_reference(grad, x, bias, activation)
    for gradient, value in zip((d_x, d_bias), computed, strict=True):
        if gradient.numel():
            gradient.copy_(value)


launch_forward = dispatch.Launchers(
    "bias_activation", {"cpu": _cpu_forward, "triton": _triton_forward, "reference": _reference_forward}
)
launch_backward = dispatch.Launchers(
    "bias_activation", {"cpu": _cpu_backward, "triton": _triton_backward, "reference": _reference_backward}
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

bias_activation_op = registry.register(
    "bias_activation",
    "(Tensor x, Tensor? bias, str? activation, str impl) -> Tensor",
    _forward,
    _forward_fake,
)
bias_activation_backward_op = registry.register(
    "bias_activation_backward",
    "(Tensor grad, Tensor x, Tensor? bias, str? activation, bool[2] wanted, str impl) -> (Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx, inputs, output):
    x, bias, ctx.activation, ctx.impl = inputs
    ctx.save_for_backward(x, bias)


def _autograd_backward(ctx, grad):
    wanted = list(ctx.needs_input_grad[:2])
    gradients = bias_activation_backward_op(grad, *ctx.saved_tensors, ctx.activation, wanted, ctx.impl)
    taken = (gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))
    return *taken, None, None


bias_activation_op.differentiate(_autograd_backward, _setup_context)
