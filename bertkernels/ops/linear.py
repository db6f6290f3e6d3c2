"""`linear`: a dense layer together with what follows it: an activation, or a product with another tensor."""

import torch

from . import checks, dispatch, extension, registry
from .bias_activation import ACTIVATIONS, activate_into, as_matrix, check_activation, check_bias, differentiate_into


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    multiplier: torch.Tensor | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """Multiplies by a matrix, adds the bias, and applies an activation or multiplies by another tensor.

        out[…, o] = activation(Σ_i x[…, i] · weight[o, i] + bias[o]) · multiplier[…, o]

    On the CPU, where oneDNN multiplies (`onednn_multiplies`) and no gradient is wanted, all of it is one call, which
    finishes each tile of the product while it is in the cache. Elsewhere the activation adds the bias as well, in
    place. The multiplier is for ConvBERT's span, which the query multiplies (Jiang et al. 2020, eq. 5).

    Args:
        x: […, I] with a contiguous last dimension.
        weight: [O, I] as `torch.nn.Linear` has it, of the same dtype and device, any strides.
        bias: [O], likewise, or None.
        activation: None or a name that `bias_activation` takes.
        multiplier: […, O] or None; not together with an activation.
        impl: "torch" or "reference"; None takes the best that can run.

    Returns:
        […, O], contiguous, of `x`'s dtype. Products add up in fp32 (fp64 for fp64). Where a gradient will be asked for
        and there is an activation or a multiplier, the product is kept beside the result.

    Raises:
        ValueError, TypeError: an unknown activation, or shapes, dtypes, devices or strides that do not fit.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    check("linear", x, weight, bias, activation, multiplier)
    inputs = (x, weight, bias, multiplier)
    keep = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs)
    return linear_op(*inputs, activation, keep, dispatch.requested(impl))[0]


def check(
    op: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    multiplier: torch.Tensor | None,
) -> None:
    """Raises where these do not make a linear layer."""
    checks.tensor(op, "x", x, checks.ANY_RANK, "[…, I]")
    if not isinstance(weight, torch.Tensor):
        raise TypeError(f"{op}: weight must be a tensor [O, I], got {type(weight).__name__}")
    if weight.dim() != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(f"{op}: weight must be [O, I] with I = {x.shape[-1]}, got shape {list(weight.shape)}")
    checks.alike(op, "weight", weight, "x", x)
    check_bias(op, bias, weight.shape[0], x)
    check_activation(op, activation)
    if multiplier is not None:
        if activation is not None:
            raise ValueError(f"{op}: give an activation or a multiplier, not both")
        checks.shape(op, "multiplier", multiplier, (*x.shape[:-1], weight.shape[0]), "[…, O]")
        checks.alike(op, "multiplier", multiplier, "x", x)


# -- reference ---------------------------------------------------------------------------------------------------------


def linear_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    multiplier: torch.Tensor | None = None,
    activation: str | None = None,
) -> torch.Tensor:
    """The specification of `linear`, in plain torch operations; differentiable; in fp32 or fp64 throughout."""
    out = ACTIVATIONS[activation][0](_product_reference(x, weight, bias))
    return (out if multiplier is None else out * multiplier).to(x.dtype)


def _product_reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    accumulate = torch.promote_types(x.dtype, torch.float32)
    out = x.to(accumulate) @ weight.to(accumulate).T
    return out if bias is None else out + bias


# -- the registered op: (x, weight, bias, multiplier, activation, keep, impl) -> (out, product) ------------------------
# With `keep` the product comes beside the result (empty without, and where it is the result): the backward pass starts
# from it, or computes it anew where it was not kept. It includes the bias, but before an activation, which adds it.


def _forward(x, weight, bias, multiplier, activation, keep, impl):
    # Under autocast dtypes are only settled here: fp64 tensors keep theirs.
    for name, tensor in (("weight", weight), ("bias", bias), ("multiplier", multiplier)):
        if tensor is not None:
            checks.alike("linear", name, tensor, "x", x)
    run = launch_forward.select(x.device.type, impl)
    rows = None if multiplier is None else as_matrix(multiplier)
    shape = (*x.shape[:-1], weight.shape[0])
    if not (keep and _has_epilogue(activation, multiplier)):
        return run(as_matrix(x), weight, bias, rows, activation).view(shape), x.new_empty(0)
    product = run(as_matrix(x), weight, None if activation else bias, None, None)  # [M, O]
    return _finish(product, bias, rows, activation).view(shape), product.view(shape)


def _has_epilogue(activation, multiplier) -> bool:
    return activation is not None or multiplier is not None


def _finish(
    product: torch.Tensor, bias: torch.Tensor | None, multiplier: torch.Tensor | None, activation: str | None
) -> torch.Tensor:
    if multiplier is not None:
        return product * multiplier
    out = torch.empty_like(product)
    activate_into(out, product, bias, activation, "")
    return out


def _forward_fake(x, weight, bias, multiplier, activation, keep, impl):
    shape = (*x.shape[:-1], weight.shape[0])
    return x.new_empty(shape), x.new_empty(shape if keep and _has_epilogue(activation, multiplier) else 0)


def _backward(grad, x, weight, bias, product, multiplier, activation, wanted, impl):
    run = launch_forward.select(x.device.type, impl)
    rows, grad = as_matrix(x), as_matrix(grad.to(x.dtype))  # [M, I], [M, O]
    if _has_epilogue(activation, multiplier):
        inner = None if activation else bias
        product = as_matrix(product) if product.numel() else run(rows, weight, inner, None, None)
    d_bias = x.new_empty(weight.shape[0] if wanted[2] else 0)
    d_multiplier = x.new_empty(0)
    d_product = grad
    if multiplier is not None:
        d_product = grad * as_matrix(multiplier)
        if wanted[3]:
            d_multiplier = (grad * product).view(multiplier.shape)
    if activation is not None:
        d_product = extension.empty_like(grad)
        differentiate_into(d_product, d_bias, grad, product, bias, activation, "")
    elif wanted[2]:
        differentiate_into(x.new_empty(0), d_bias, d_product, d_product, None, None, "")
    d_x = run(d_product, weight.T, None, None, None).view(x.shape) if wanted[0] else x.new_empty(0)
    d_weight = run(d_product.T, rows.T, None, None, None) if wanted[1] else x.new_empty(0)
    return d_x, d_weight, d_bias, d_multiplier


def _backward_fake(grad, x, weight, bias, product, multiplier, activation, wanted, impl):
    """d_x, d_weight, d_bias and d_multiplier; those that are not wanted are empty."""
    return (
        x.new_empty(x.shape if wanted[0] else 0),
        x.new_empty(weight.shape if wanted[1] else 0),
        x.new_empty(weight.shape[0] if wanted[2] else 0),
        x.new_empty(multiplier.shape if wanted[3] else 0),
    )


# -- launchers: one an implementation, (x [M, I], weight [O, I], bias, multiplier [M, O], activation) -> [M, O] --------

# oneDNN's names of what follows a product, its numbers, and the algorithm; torch does not pass elu on to it
_ONEDNN_EPILOGUES = {
    None: ("none", [], ""),
    "gelu": ("gelu", [], "none"),
    "gelu_tanh": ("gelu", [], "tanh"),
    "relu": ("relu", [], ""),
    "tanh": ("tanh", [], ""),
    "sigmoid": ("sigmoid", [], ""),
    "leaky_relu": ("leaky_relu", [0.01], ""),
    "swish": ("swish", [], ""),
}
# oneDNN makes a kernel for every new shape, about a millisecond, and packed batches bring a new number of rows each
# time: products whose smallest face has fewer elements are done before that.
_ONEDNN_LEAST_FACE = 2**15


# Of torch's two libraries, MKL has fast code for fp32 on Intel's processors only.
_MKL_IS_FASTER = extension.has("is_intel") and extension.C.is_intel() and torch.backends.mkl.is_available()
_ONEDNN_IS_THERE = torch.backends.mkldnn.is_available()  # asked here: compilers cannot trace the question


def onednn_multiplies(dtype: torch.dtype) -> bool:
    """Whether `linear` leaves products of this dtype on the CPU to oneDNN, rather than to what `torch.mm` takes."""
    if dtype == torch.float32 and _MKL_IS_FASTER:
        return False
    return dtype in (torch.float32, torch.bfloat16) and _ONEDNN_IS_THERE


def _onednn_takes(x: torch.Tensor, weight: torch.Tensor) -> bool:
    smallest, middle, _ = sorted((*x.shape, weight.shape[0]))
    return x.device.type == "cpu" and onednn_multiplies(x.dtype) and smallest * middle >= _ONEDNN_LEAST_FACE


def _torch_forward(x, weight, bias, multiplier, activation):
    if activation in _ONEDNN_EPILOGUES and _onednn_takes(x, weight):
        if multiplier is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x, multiplier, weight, bias, "mul")
        name, numbers, algorithm = _ONEDNN_EPILOGUES[activation]
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, numbers, algorithm)
    if activation is not None:
        product = torch.mm(x, weight.T)
        activate_into(product, product, bias, activation, "")
        return product
    product = torch.nn.functional.linear(x, weight, bias)
    return product if multiplier is None else product.mul_(multiplier)


def _reference_forward(x, weight, bias, multiplier, activation):
    return linear_reference(x, weight, bias, multiplier, activation)


launch_forward = dispatch.Launchers("linear", {"torch": _torch_forward, "reference": _reference_forward})


# -- torch ops and autograd --------------------------------------------------------------------------------------------

linear_op = registry.register(
    "linear",
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? multiplier, str? activation, bool keep, str impl)"
    " -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
linear_backward_op = registry.register(
    "linear_backward",
    "(Tensor grad, Tensor x, Tensor weight, Tensor? bias, Tensor product, Tensor? multiplier, str? activation, "
    "bool[4] wanted, str impl) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx, inputs, output):
    x, weight, bias, multiplier, ctx.activation, _, ctx.impl = inputs
    product = output[1]
    ctx.mark_non_differentiable(product)
    ctx.set_materialize_grads(False)  # or zeros of the product's size would be made for its gradient
    ctx.save_for_backward(x, weight, bias, product, multiplier)


def _autograd_backward(ctx, grad, _):
    if grad is None:
        return None, None, None, None, None, None, None
    wanted = list(ctx.needs_input_grad[:4])
    gradients = linear_backward_op(grad, *ctx.saved_tensors, ctx.activation, wanted, ctx.impl)
    taken = (gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))
    return *taken, None, None, None


linear_op.differentiate(_autograd_backward, _setup_context)
