"""`grouped_linear`: a block-diagonal linear layer with bias and activation, no permutes."""

import functools
import math

import torch

from . import checks, dispatch, extension, registry
from .bias_activation import ACTIVATIONS, activate_into, as_matrix, check_activation, check_bias, differentiate_into


def grouped_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """Multiplies each of G groups of input channels by a matrix of its own, adds the bias, applies the activation.

        out[…, g·O + o] = activation(Σ_i x[…, g·I + i] · weight[g, i, o] + bias[g·O + o])

    The grouped feed-forward layer of ConvBERT (Jiang et al. 2020, §3.3). Matrix products read and write the channels
    where they lie; bias and activation are one pass over their result (`bias_activation`), or end the product itself
    (Triton). With G = 1 it is an ordinary linear layer with a fused activation:
    `grouped_linear(x, linear.weight.T[None], linear.bias, …)`.

    Args:
        x: […, G·I] with a contiguous last dimension; leading dimensions that cannot be seen as one are copied.
        weight: [G, I, O] of the same dtype and device, any strides.
        bias: [G·O], likewise, or None.
        activation: None or a name that `bias_activation` takes.
        impl: "cpu", "torch", "triton" or "reference"; None takes the best that can run.

    Returns:
        […, G·O], contiguous, of `x`'s dtype. Products add up in fp32 (fp64 for fp64), in which bias and activation are
        computed; where these are a pass of their own, products are rounded to the dtype before. Where a gradient will
        be asked for, the product is kept beside the output.

    Raises:
        ValueError, TypeError: an unknown activation, or shapes, dtypes, devices or strides that do not fit.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    check("grouped_linear", x, weight, bias, activation)
    differentiated = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    keep = differentiated and torch.is_grad_enabled()
    return grouped_linear_op(x, weight, bias, activation, keep, dispatch.requested(impl))[0]


def check(op: str, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None) -> None:
    """Raises where x, weight, bias and activation do not make a grouped linear layer."""
    checks.tensor(op, "x", x, checks.ANY_RANK, "[…, G·I]")
    if not isinstance(weight, torch.Tensor):
        raise TypeError(f"{op}: weight must be a tensor [G, I, O], got {type(weight).__name__}")
    if weight.dim() != 3 or weight.shape[0] == 0:
        raise ValueError(f"{op}: weight must be [G, I, O] with G ≥ 1, got shape {list(weight.shape)}")
    groups, width_in, width_out = weight.shape
    if x.shape[-1] != groups * width_in:
        raise ValueError(
            f"{op}: the last dimension of x must be G·I = {groups}·{width_in} = {groups * width_in} "
            f"for weight {list(weight.shape)}, got {x.shape[-1]}"
        )
    checks.alike(op, "weight", weight, "x", x)
    check_bias(op, bias, groups * width_out, x)
    check_activation(op, activation)


# -- reference ---------------------------------------------------------------------------------------------------------


def grouped_linear_reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, activation: str | None = None
) -> torch.Tensor:
    """The specification of `grouped_linear`, in plain torch operations; differentiable; in fp32 or fp64 throughout."""
    function, _ = ACTIVATIONS[activation]
    return function(_argument(x, weight, bias)).to(x.dtype)


def grouped_linear_backward_reference(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `grouped_linear` with respect to x, weight and bias, derived by hand."""
    groups, width_in, width_out = weight.shape
    _, derivative = ACTIVATIONS[activation]
    argument = _argument(x, weight, bias)  # […, G·O]
    d_argument = grad.to(argument.dtype) * derivative(argument)
    tokens = math.prod(x.shape[:-1])
    d_product = d_argument.reshape(tokens, groups, width_out)  # [M, G, O]
    rows = x.reshape(tokens, groups, width_in).to(argument.dtype)  # [M, G, I]
    d_x = torch.einsum("mgo,gio->mgi", d_product, weight.to(argument.dtype)).reshape(x.shape)
    d_weight = torch.einsum("mgi,mgo->gio", rows, d_product)
    return d_x.to(x.dtype), d_weight.to(weight.dtype), d_product.sum(0).reshape(-1).to(x.dtype)


def _argument(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What the activation is applied to, […, G·O], in fp32 or fp64."""
    groups, width_in, width_out = weight.shape
    accumulate = torch.promote_types(x.dtype, torch.float32)
    rows = x.reshape(math.prod(x.shape[:-1]), groups, width_in).to(accumulate)  # [M, G, I]
    product = torch.einsum("mgi,gio->mgo", rows, weight.to(accumulate))
    product = product.reshape(*x.shape[:-1], groups * width_out)
    return product if bias is None else product + bias


# -- the registered op: (x, weight, bias, activation, keep, impl) -> (out, product) ------------------------------------
# With `keep` the product without bias and activation comes beside the output (empty without, and where there is no
# activation): the backward pass starts from it, or computes it anew where it was not kept.


def _forward(x, weight, bias, activation, keep, impl):
    _check_dtypes(x, weight, bias)
    out, product = _forward_fake(x, weight, bias, activation, keep, impl)
    launch = launch_forward.select(x.device.type, impl)
    if out.numel():
        rows = as_matrix(out)  # [M, G·O]
        launch(rows, product.view(rows.shape) if product.numel() else None, as_matrix(x), weight, bias, activation)
    return out, product


def _check_dtypes(x, weight, bias):
    # Under autocast dtypes are only settled here: fp64 tensors keep theirs.
    checks.alike("grouped_linear", "weight", weight, "x", x)
    if bias is not None:
        checks.alike("grouped_linear", "bias", bias, "x", x)


def _forward_fake(x, weight, bias, activation, keep, impl):
    shape = (*x.shape[:-1], weight.shape[0] * weight.shape[2])
    return x.new_empty(shape), x.new_empty(shape if keep and activation is not None else 0)


def _backward(grad, x, weight, bias, product, activation, wanted, impl):
    d_x, d_weight, d_bias = _backward_fake(grad, x, weight, bias, product, activation, wanted, impl)
    launch = launch_backward.select(x.device.type, impl)
    if grad.numel():
        rows = as_matrix(grad.to(x.dtype))  # [M, G·O]
        product = product.view(rows.shape) if product.numel() else None
        inputs = (rows, as_matrix(x), weight, bias, product, activation)
        launch(as_matrix(d_x), d_weight, d_bias, *inputs)
    else:
        for gradient in (d_x, d_weight, d_bias):
            gradient.zero_()
    return d_x, d_weight, d_bias


def _backward_fake(grad, x, weight, bias, product, activation, wanted, impl):
    """d_x, d_weight (with weight's strides where it is dense) and d_bias; those that are not wanted are empty."""
    return (
        x.new_empty(x.shape if wanted[0] else 0),
        torch.empty_like(weight) if wanted[1] else x.new_empty(0),
        x.new_empty(grad.shape[-1:] if wanted[2] else 0),
    )


# -- launchers: one an implementation ----------------------------------------------------------------------------------


def _groups(rows: torch.Tensor, groups: int) -> torch.Tensor:
    """[M, G·W] seen as the batch of matrices [G, M, W]."""
    return rows.unflatten(1, (groups, -1)).transpose(0, 1)


def _product(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> None:
    """out[m, g·O + o] = Σ_i x[m, g·I + i] · weight[g, i, o], in place."""
    groups = weight.shape[0]
    if groups == 1:
        torch.mm(x, weight[0], out=out)
    else:
        torch.bmm(_groups(x, groups), weight, out=_groups(out, groups))


def _library_forward(impl, out, product, x, weight, bias, activation):
    """A product of torch's library, and a pass of `bias_activation` by `impl`."""
    product = out if product is None else product
    _product(product, x, weight)
    if bias is not None or activation is not None:
        activate_into(out, product, bias, activation, impl)


def _library_backward(impl, d_x, d_weight, d_bias, grad, x, weight, bias, product, activation):
    groups = weight.shape[0]
    d_product = grad  # [M, G·O]
    if activation is not None:
        if product is None:
            product = extension.empty_like(grad)
            _product(product, x, weight)
        d_product = extension.empty_like(grad)
        differentiate_into(d_product, d_bias, grad, product, bias, activation, impl)
    elif d_bias.numel():
        differentiate_into(d_x.new_empty(0), d_bias, grad, grad, None, None, impl)
    if d_x.numel():
        _product(d_x, d_product, weight.transpose(1, 2))
    if d_weight.numel():
        torch.bmm(_groups(x, groups).transpose(1, 2), _groups(d_product, groups), out=d_weight)


def _triton_forward(out, product, x, weight, bias, activation):
    from bertkernels.kernels import grouped_linear as kernel

    kernel.forward(out, product, x, weight, bias, activation)


def _triton_backward(d_x, d_weight, d_bias, grad, x, weight, bias, product, activation):
    from bertkernels.kernels import grouped_linear as kernel

    wanted = (gradient if gradient.numel() else None for gradient in (d_x, d_weight, d_bias))
    kernel.backward(*wanted, grad, x, weight, bias, product, activation)


def _reference_forward(out, product, x, weight, bias, activation):
    if product is not None:
        product.copy_(_argument(x, weight, None))
    out.copy_(grouped_linear_reference(x, weight, bias, activation))


def _reference_backward(d_x, d_weight, d_bias, grad, x, weight, bias, product, activation):
    computed = grouped_linear_backward_reference(grad, x, weight, bias, activation)
    for gradient, value in zip((d_x, d_weight, d_bias), computed, strict=True):
        if gradient.numel():
            gradient.copy_(value)


# "cpu" and "torch" are the same library calls; after them "torch" takes the best bias_activation there is.
launch_forward = dispatch.Launchers(
    "grouped_linear",
    {
        "cpu": functools.partial(_library_forward, "cpu"),
        "torch": functools.partial(_library_forward, ""),
        "triton": _triton_forward,
        "reference": _reference_forward,
    },
    compiled_as="bias_activation",
)
launch_backward = dispatch.Launchers(
    "grouped_linear",
    {
        "cpu": functools.partial(_library_backward, "cpu"),
        "torch": functools.partial(_library_backward, ""),
        "triton": _triton_backward,
        "reference": _reference_backward,
    },
    compiled_as="bias_activation",
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

grouped_linear_op = registry.register(
    "grouped_linear",
    "(Tensor x, Tensor weight, Tensor? bias, str? activation, bool keep, str impl) -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
grouped_linear_backward_op = registry.register(
    "grouped_linear_backward",
    "(Tensor grad, Tensor x, Tensor weight, Tensor? bias, Tensor product, str? activation, bool[3] wanted, str impl)"
    " -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx, inputs, output):
    x, weight, bias, ctx.activation, _, ctx.impl = inputs
    product = output[1]
    ctx.mark_non_differentiable(product)
    ctx.set_materialize_grads(False)  # or zeros of the product's size would be made for its gradient
    ctx.save_for_backward(x, weight, bias, product)


def _autograd_backward(ctx, grad, _):
    if grad is None:
        return None, None, None, None, None, None
    wanted = list(ctx.needs_input_grad[:3])
    gradients = grouped_linear_backward_op(grad, *ctx.saved_tensors, ctx.activation, wanted, ctx.impl)
    taken = (gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))
    return *taken, None, None, None


grouped_linear_op.differentiate(_autograd_backward, _setup_context)
