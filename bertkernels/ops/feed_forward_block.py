"""`feed_forward_block`: a whole feed-forward sub-layer, dropout, residual connection and norm included."""

from collections.abc import Callable

import torch

from . import blas, checks, dispatch, extension, philox
from .bias_activation import activation_number, bias_activation_reference, check_activation
from .feed_forward_training import feed_forward_training_op
from .grouped_linear import grouped_linear_reference
from .linear import linear_reference
from .residual_norm import residual_norm_reference


def feed_forward_block(
    x: torch.Tensor,
    up_weight: torch.Tensor,
    up_bias: torch.Tensor | None,
    down_weight: torch.Tensor,
    down_bias: torch.Tensor | None,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    *,
    activation: str | None = "gelu",
    eps: float = 1e-12,
    dropout_p: float = 0.0,
    impl: str | None = None,
) -> torch.Tensor:
    """LayerNorm(x + dropout(down(activation(up(x))))) (Vaswani et al. 2017, §3.3; grouped: Jiang et al. 2020, §3.3).

    On the CPU a few hundred tokens a thread go through all of it at a time, so that the channels between the layers
    stay in its cache. Where a gradient will be asked for, the up layer's product and the down layer's result are kept
    beside x; the backward pass goes piece by piece too, but for the gradients of the two weights.

    Args:
        x: […, C] with a contiguous last dimension.
        up_weight, down_weight: [F, C] and [C, F] as `torch.nn.Linear` has them, or in groups as `grouped_linear` has
            them, [G, C/G, F/G] and [G, F/G, C/G]; of x's dtype and device, last dimension contiguous.
        up_bias, down_bias: [F] and [C], likewise, or None.
        norm_weight, norm_bias: [C], likewise.
        activation: None or a name that `bias_activation` takes.
        eps: of the LayerNorm. dropout_p: from 0 to below 1, as in `residual_norm`; pass 0 outside training.
        impl: "cpu" (float32 only, with MKL) or "reference"; None takes the best that can run.

    Returns:
        […, C], contiguous, of x's dtype. Sums are in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: an unknown activation, or shapes, dtypes, devices or strides that do not fit.
        RuntimeError: `impl` asks for an implementation that cannot run here.
    """
    op = "feed_forward_block"
    parameters = (up_weight, up_bias, down_weight, down_bias, norm_weight, norm_bias)
    checks.tensor(op, "x", x, checks.ANY_RANK, "[…, C]")
    check_activation(op, activation)
    _check_parameters(op, x, *parameters)
    if not 0 <= dropout_p < 1:
        raise ValueError(f"{op}: dropout_p must be from 0 to below 1, got {dropout_p}")
    inputs = (x, *parameters)
    impl = dispatch.requested(impl)
    keep = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs)
    if keep or dropout_p:
        seed = philox.draw_seed(x.device) if dropout_p else None
        return feed_forward_training_op(*inputs, seed, activation, eps, dropout_p, impl)[0]
    return feed_forward_block_op(*inputs, activation, eps, impl)


def bind(
    up_weight: torch.Tensor,
    up_bias: torch.Tensor | None,
    down_weight: torch.Tensor,
    down_bias: torch.Tensor | None,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    activation: str | None,
    eps: float,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """`feed_forward_block` with its parameters bound to it: x → out, both as there.

    For plain inference in fp32 on the CPU, where implementation "cpu" runs. Parameters are contiguous, and must stay
    where they are as long as the function is called: it keeps their addresses.
    """
    op, channels = "feed_forward_block", norm_weight.shape[-1]
    parameters = (up_weight, up_bias, down_weight, down_bias, norm_weight, norm_bias)
    check_activation(op, activation)
    _check_parameters(op, norm_weight, *parameters)
    compiled = _compiled(*parameters, activation, eps)

    def call(x):
        checks.rows(op, x, channels)
        return _launch(x, compiled) if x.numel() else x.new_empty(x.shape)

    return call


def _check_parameters(
    op: str,
    like: torch.Tensor,
    up: torch.Tensor,
    up_bias: torch.Tensor | None,
    down: torch.Tensor,
    down_bias: torch.Tensor | None,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
) -> None:
    """`like` has C channels, and the dtype and the device that they all must have."""
    for name, weight in (("up_weight", up), ("down_weight", down)):
        checks.tensor(op, name, weight, (2, 3), "[O, I] or grouped [G, I, O]")
        checks.alike(op, name, weight, "x", like)
    channels, hidden = like.shape[-1], up.shape[0]
    expected = (hidden, channels), (channels, hidden)
    if up.dim() == 3:
        groups, _, hidden = up.shape
        expected = (groups, channels // max(groups, 1), hidden), (groups, hidden, channels // max(groups, 1))
        if groups == 0 or channels % groups:
            raise ValueError(f"{op}: up_weight's {groups} groups must divide C = {channels}")
    checks.shape(op, "up_weight", up, expected[0], "[F, C] or [G, C/G, F/G]")
    checks.shape(op, "down_weight", down, expected[1], "[C, F] or [G, F/G, C/G]")
    checks.vector(op, "up_bias", up_bias, hidden if up.dim() == 2 else groups * hidden, like)
    for name, vector in (("down_bias", down_bias), ("norm_weight", norm_weight), ("norm_bias", norm_bias)):
        checks.vector(op, name, vector, channels, like)


def feed_forward_block_reference(
    x: torch.Tensor,
    up_weight: torch.Tensor,
    up_bias: torch.Tensor | None,
    down_weight: torch.Tensor,
    down_bias: torch.Tensor | None,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    activation: str | None = "gelu",
    eps: float = 1e-12,
    seed: torch.Tensor | None = None,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """The specification of `feed_forward_block`, in plain torch operations; differentiable; in fp32 or fp64."""
    wide = torch.promote_types(x.dtype, torch.float32)
    up = linear_reference if up_weight.dim() == 2 else grouped_linear_reference
    hidden = bias_activation_reference(up(x.to(wide), up_weight.to(wide), None), _wide(up_bias, wide), activation)
    result = up(hidden, down_weight.to(wide), _wide(down_bias, wide))
    return residual_norm_reference(result, x.to(wide), norm_weight, norm_bias, seed, eps, dropout_p).to(x.dtype)


def _wide(vector: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if vector is None else vector.to(dtype)


# -- the registered op -------------------------------------------------------------------------------------------------


def _cpu(x, up_weight, up_bias, down_weight, down_bias, norm_weight, norm_bias, activation, eps):
    layers = (blas.rows(up_weight), up_bias, blas.rows(down_weight), down_bias)
    return _launch(x, _compiled(*layers, norm_weight, norm_bias, activation, eps))


def _compiled(up_weight, up_bias, down_weight, down_bias, norm_weight, norm_bias, activation, eps):
    """What compiled code takes of the parameters: F, groups and the activation's number, both layers, the norm, and
    BLAS."""
    groups, hidden = 1, up_weight.shape[0]
    if up_weight.dim() == 3:
        groups, hidden = up_weight.shape[0], up_weight.shape[0] * up_weight.shape[2]
    layers = (blas.layer(up_weight, up_bias), blas.layer(down_weight, down_bias))
    norm = (norm_weight.data_ptr(), norm_bias.data_ptr(), eps)
    return (hidden, groups, activation_number(activation)), *layers, norm, blas.sgemm()[0]


def _launch(x, compiled):
    sizes, up, down, norm, gemm = compiled
    out, rows = extension.empty_like(x), blas.matrix(x)  # [M, C]
    channels = x.shape[-1]
    extension.C.feed_forward_block_forward_cpu(
        (x.numel() // channels, channels, *sizes),
        extension.rows_operand(rows),
        up,
        down,
        norm,
        extension.rows_operand(out),
        gemm,
        torch.get_num_threads(),
    )
    return out


launch = dispatch.Launchers(
    "feed_forward_block",
    {"cpu": _cpu, "reference": feed_forward_block_reference},
    needs={"cpu": lambda: blas.sgemm()[1]},
)

feed_forward_block_op = blas.register(
    launch,
    "(Tensor x, Tensor up_weight, Tensor? up_bias, Tensor down_weight, Tensor? down_bias, Tensor norm_weight, "
    "Tensor norm_bias, str? activation, float eps, str impl) -> Tensor",
)
