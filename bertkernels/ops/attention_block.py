"""`attention_block`: a whole self-attention sub-layer, residual connection and norm included, for inference."""

from collections.abc import Callable

import torch

from . import blas, checks, dispatch, extension
from .attention import attention_reference
from .linear import linear_reference
from .residual_norm import residual_norm_reference
from .sequences import dense

Layers = list[torch.Tensor]

LAYERS = ("query", "key", "value", "output")
_NAMES = tuple((f"{name}'s weight", f"{name}'s bias") for name in LAYERS)


def attention_block(
    x: torch.Tensor,
    weights: Layers,
    biases: Layers,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
    *,
    key_bias: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    eps: float = 1e-12,
    impl: str | None = None,
) -> torch.Tensor:
    """LayerNorm(x + output(attention(query(x), key(x), value(x)))) (Vaswani et al. 2017, §3.1-3.2).

    On the CPU a few sequences at a time go through all of it, so that what lies between stays in the threads' caches.
    It computes no gradients: training composes `linear`, `attention` and `residual_norm`.

    Args:
        x: [B, T, C], or packed [total, C], with a contiguous last dimension.
        weights, biases: of the four `LAYERS` in their order, as `torch.nn.Linear` has them: the first three C → H·D,
            output H·D → C. All of x's dtype and device, last dimension contiguous.
        norm_weight, norm_bias: [C].
        heads: H.
        key_bias: [B, T], padded form only: added to all scores of a key, such as -inf at padding. A sequence whose keys
            are all at -inf attends nothing: its attention is zero.
        cu_seqlens: int32 [B + 1], packed form: sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1] - 1.
        eps: of the LayerNorm.
        impl: "cpu" (float32 only, with MKL) or "reference"; None takes the best that can run.

    Returns:
        x's shape, contiguous, of x's dtype. Sums are in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, or contents of `cu_seqlens` do not fit.
        RuntimeError: gradients would be wanted, or `impl` asks for an implementation that cannot run here.
    """
    op = "attention_block"
    checks.tokens(op, x, key_bias, cu_seqlens)
    _check_parameters(op, x, weights, biases, norm_weight, norm_bias, heads)
    checks.no_gradients(op, x, *weights, *biases, norm_weight, norm_bias)
    arguments = (x, weights, biases, norm_weight, norm_bias, heads, key_bias, cu_seqlens, eps)
    return attention_block_op(*arguments, dispatch.requested(impl))


def bind(
    weights: Layers, biases: Layers, norm_weight: torch.Tensor, norm_bias: torch.Tensor, heads: int, eps: float
) -> Callable[..., torch.Tensor]:
    """`attention_block` with its parameters bound to it: (x, key_bias, cu_seqlens) → out, each as there.

    For plain inference in fp32 on the CPU, where implementation "cpu" runs. Parameters are contiguous, and must stay
    where they are as long as the function is called: it keeps their addresses.
    """
    op, channels = "attention_block", norm_weight.shape[-1]
    _check_parameters(op, norm_weight, weights, biases, norm_weight, norm_bias, heads)
    compiled = _compiled(weights, biases, norm_weight, norm_bias, heads, eps)

    def call(x, key_bias=None, cu_seqlens=None):
        checks.tokens(op, x, key_bias, cu_seqlens, channels)
        return _launch(x, compiled, key_bias, cu_seqlens) if x.numel() else x.new_empty(x.shape)

    return call


def _check_parameters(
    op: str,
    like: torch.Tensor,
    weights: Layers,
    biases: Layers,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
) -> None:
    """`like` has C channels, and the dtype and the device that they all must have."""
    if len(weights) != len(LAYERS) or len(biases) != len(LAYERS):
        raise ValueError(f"{op}: weights and biases must be those of {', '.join(LAYERS)}")
    checks.tensor(op, "query's weight", weights[0], 2, "[O, I]")
    channels, width = like.shape[-1], weights[0].shape[0]  # C, H·D
    if heads < 1 or width % heads or width == 0:
        raise ValueError(f"{op}: query's {width} channels must be H·D with H = {heads} heads")
    shapes = (*((width, channels),) * 3, (channels, width))
    for (weight_name, bias_name), weight, bias, shape in zip(_NAMES, weights, biases, shapes, strict=True):
        checks.companion(op, weight_name, weight, shape, "[O, I]", "x", like)
        checks.companion(op, bias_name, bias, shape[:1], "one number a channel", "x", like)
    checks.vector(op, "norm_weight", norm_weight, channels, like)
    checks.vector(op, "norm_bias", norm_bias, channels, like)


def attention_block_reference(
    x: torch.Tensor,
    weights: Layers,
    biases: Layers,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
    key_bias: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    eps: float = 1e-12,
) -> torch.Tensor:
    """The specification of `attention_block`, in plain torch operations; in fp32 or fp64 throughout."""
    checks.sequence_values("attention_block", x.shape[-2], None, cu_seqlens)
    wide_x = x.to(torch.promote_types(x.dtype, torch.float32))
    *projections, output = (
        (weight.to(wide_x.dtype), bias.to(wide_x.dtype)) for weight, bias in zip(weights, biases, strict=True)
    )
    projected = [linear_reference(wide_x, *layer).unflatten(-1, (heads, -1)) for layer in projections]  # [B, T, H, D]
    bias = None if key_bias is None else key_bias.to(wide_x.dtype)
    context, _ = attention_reference(*projected, bias, None, cu_seqlens)
    result = linear_reference(context.flatten(-2), *output)
    return residual_norm_reference(result, wide_x, norm_weight, norm_bias, eps=eps).to(x.dtype)


# -- the registered op -------------------------------------------------------------------------------------------------


def _cpu(x, weights, biases, norm_weight, norm_bias, heads, key_bias, cu_seqlens, eps):
    weights = [blas.rows(weight) for weight in weights]
    return _launch(x, _compiled(weights, biases, norm_weight, norm_bias, heads, eps), key_bias, cu_seqlens)


def _compiled(weights, biases, norm_weight, norm_bias, heads, eps):
    """What compiled code takes of the parameters: heads and their width, the layers, the norm, and BLAS."""
    norm = (norm_weight.data_ptr(), norm_bias.data_ptr(), eps)
    return (heads, weights[0].shape[0] // heads), tuple(map(blas.layer, weights, biases)), norm, blas.sgemm()[0]


def _launch(x, compiled, key_bias, cu_seqlens):
    (heads, width), layers, norm, gemm = compiled
    out, rows = extension.empty_like(x), blas.matrix(x)  # [B·T, C]
    batches, tokens = x.shape[:2] if cu_seqlens is None else (cu_seqlens.shape[0] - 1, x.shape[0])
    starts = dense(cu_seqlens)
    extension.C.attention_block_forward_cpu(
        (batches, tokens, x.shape[-1], heads, width, 0 if starts is None else starts.data_ptr(), width**-0.5),
        extension.rows_operand(rows),
        (0, 0) if key_bias is None else extension.operand(key_bias),
        layers,
        norm,
        extension.rows_operand(out),
        gemm,
        torch.get_num_threads(),
    )
    return out


launch = dispatch.Launchers(
    "attention_block", {"cpu": _cpu, "reference": attention_block_reference}, needs={"cpu": lambda: blas.sgemm()[1]}
)

attention_block_op = blas.register(
    launch,
    "(Tensor x, Tensor[] weights, Tensor[] biases, Tensor norm_weight, Tensor norm_bias, int heads, Tensor? key_bias, "
    "Tensor? cu_seqlens, float eps, str impl) -> Tensor",
)
