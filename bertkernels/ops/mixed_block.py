"""`mixed_block`: a whole mixed-attention sub-layer, residual connection and norm included, for inference."""

from collections.abc import Callable

import torch

from . import blas, checks, dispatch, extension
from .linear import linear_reference
from .mixed_attention import mixed_attention_reference
from .residual_norm import residual_norm_reference
from .sequences import dense
from .span_conv import span_conv_logits_reference

Layers = list[torch.Tensor]

LAYERS = ("query", "key", "value", "conv_value", "pointwise", "kernel", "output")
_NAMES = tuple((f"{name}'s weight", f"{name}'s bias") for name in LAYERS)


def mixed_block(
    x: torch.Tensor,
    depthwise_weight: torch.Tensor,
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
    """LayerNorm(x + output(mixed attention of x)) (ConvBERT, Jiang et al. 2020, §3.2-3.3).

        query, key, value, conv_value = the layers of these names, applied to x
        logits  = span_conv_logits(x, query, depthwise_weight, pointwise, kernel)
        context = mixed_attention(query, key, value, conv_value, logits)

    On the CPU a few sequences at a time go through all of it, so that what lies between stays in the threads' caches.
    It computes no gradients: training composes `linear`, `span_conv_logits`, `mixed_attention` and `residual_norm`.

    Args:
        x: [B, T, C], or packed [total, C], with a contiguous last dimension.
        depthwise_weight: [C, K].
        weights, biases: of the seven `LAYERS` in their order, as `torch.nn.Linear` has them: the first five C → H·D,
            kernel H·D → H·K, output 2·H·D → C. All of x's dtype and device, last dimension contiguous.
        norm_weight, norm_bias: [C].
        heads: H, heads of each kind.
        key_bias: [B, T], padded form only: added to all scores of a key, such as -inf at padding.
        cu_seqlens: int32 [B + 1], packed form: sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1] - 1.
        eps: of the LayerNorm.
        impl: "cpu" (float32 only, with MKL) or "reference"; None takes the best that can run.

    Returns:
        x's shape, contiguous, of x's dtype. Sums are in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, or contents of `cu_seqlens` do not fit.
        RuntimeError: gradients would be wanted, or `impl` asks for an implementation that cannot run here.
    """
    op = "mixed_block"
    checks.tokens(op, x, key_bias, cu_seqlens)
    _check_parameters(op, x, depthwise_weight, weights, biases, norm_weight, norm_bias, heads)
    checks.no_gradients(op, x, depthwise_weight, *weights, *biases, norm_weight, norm_bias)
    arguments = (x, depthwise_weight, weights, biases, norm_weight, norm_bias, heads, key_bias, cu_seqlens, eps)
    return mixed_block_op(*arguments, dispatch.requested(impl))


def bind(
    depthwise_weight: torch.Tensor,
    weights: Layers,
    biases: Layers,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
    eps: float,
) -> Callable[..., torch.Tensor]:
    """`mixed_block` with its parameters bound to it: (x, key_bias, cu_seqlens) → out, each as there.

    For plain inference in fp32 on the CPU, where implementation "cpu" runs. Parameters are contiguous, and must stay
    where they are as long as the function is called: it keeps their addresses.
    """
    op, channels = "mixed_block", norm_weight.shape[-1]
    parameters = (depthwise_weight, weights, biases, norm_weight, norm_bias, heads)
    _check_parameters(op, norm_weight, *parameters)
    compiled = _compiled(*parameters, eps)

    def call(x, key_bias=None, cu_seqlens=None):
        checks.tokens(op, x, key_bias, cu_seqlens, channels)
        return _launch(x, compiled, key_bias, cu_seqlens) if x.numel() else x.new_empty(x.shape)

    return call


def _check_parameters(
    op: str,
    like: torch.Tensor,
    depthwise_weight: torch.Tensor,
    weights: Layers,
    biases: Layers,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
) -> None:
    """`like` has C channels, and the dtype and the device that they all must have."""
    if len(weights) != len(LAYERS) or len(biases) != len(LAYERS):
        raise ValueError(f"{op}: weights and biases must be those of {', '.join(LAYERS)}")
    channels = like.shape[-1]
    checks.tensor(op, "depthwise_weight", depthwise_weight, 2, "[C, K]")
    checks.alike(op, "depthwise_weight", depthwise_weight, "x", like)
    taps = depthwise_weight.shape[1]
    checks.shape(op, "depthwise_weight", depthwise_weight, (channels, taps), "[C, K]")
    width = weights[0].shape[0]  # H·D
    if heads < 1 or width % heads or width == 0 or taps == 0:
        raise ValueError(
            f"{op}: query's {width} channels must be H·D with H = {heads} heads, and K = {taps} at least 1"
        )
    shapes = (*((width, channels),) * 5, (heads * taps, width), (channels, 2 * width))
    for (weight_name, bias_name), weight, bias, shape in zip(_NAMES, weights, biases, shapes, strict=True):
        checks.companion(op, weight_name, weight, shape, "[O, I]", "x", like)
        checks.vector(op, bias_name, bias, shape[0], like)
    checks.vector(op, "norm_weight", norm_weight, channels, like)
    checks.vector(op, "norm_bias", norm_bias, channels, like)


def mixed_block_reference(
    x: torch.Tensor,
    depthwise_weight: torch.Tensor,
    weights: Layers,
    biases: Layers,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    heads: int,
    key_bias: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    eps: float = 1e-12,
) -> torch.Tensor:
    """The specification of `mixed_block`, in plain torch operations; in fp32 or fp64 throughout."""
    checks.sequence_values("mixed_block", x.shape[-2], None, cu_seqlens)
    wide_x = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = [(weight.to(wide_x.dtype), bias.to(wide_x.dtype)) for weight, bias in zip(weights, biases, strict=True)]
    projected = [linear_reference(wide_x, *layer).unflatten(-1, (heads, -1)) for layer in wide[:4]]
    logits = span_conv_logits_reference(
        wide_x, projected[0], depthwise_weight.to(wide_x.dtype), *wide[4], *wide[5], None, cu_seqlens
    )
    bias = None if key_bias is None else key_bias.to(wide_x.dtype)
    context = mixed_attention_reference(*projected, logits, bias, None, cu_seqlens)
    return residual_norm_reference(linear_reference(context, *wide[6]), wide_x, norm_weight, norm_bias, eps=eps).to(
        x.dtype
    )


# -- the registered op -------------------------------------------------------------------------------------------------


def _cpu(x, depthwise_weight, weights, biases, norm_weight, norm_bias, heads, key_bias, cu_seqlens, eps):
    weights = [blas.rows(weight) for weight in weights]
    compiled = _compiled(depthwise_weight, weights, biases, norm_weight, norm_bias, heads, eps)
    return _launch(x, compiled, key_bias, cu_seqlens)


def _compiled(depthwise_weight, weights, biases, norm_weight, norm_bias, heads, eps):
    """What compiled code takes of the parameters: heads, their width and taps, all layers, the norm, and BLAS."""
    sizes = (heads, weights[0].shape[0] // heads, depthwise_weight.shape[1])
    layers = (extension.operand(depthwise_weight), tuple(map(blas.layer, weights, biases)))
    return sizes, *layers, (norm_weight.data_ptr(), norm_bias.data_ptr(), eps), blas.sgemm()[0]


def _launch(x, compiled, key_bias, cu_seqlens):
    (heads, width, taps), depthwise, layers, norm, gemm = compiled
    out, rows = extension.empty_like(x), blas.matrix(x)  # [B·T, C]
    batches, tokens = x.shape[:2] if cu_seqlens is None else (cu_seqlens.shape[0] - 1, x.shape[0])
    starts = dense(cu_seqlens)
    extension.C.mixed_block_forward_cpu(
        (batches, tokens, x.shape[-1], heads, width, taps, 0, 0 if starts is None else starts.data_ptr(), width**-0.5),
        extension.rows_operand(rows),
        (0, 0) if key_bias is None else extension.operand(key_bias),
        depthwise,
        layers,
        norm,
        extension.rows_operand(out),
        gemm,
        torch.get_num_threads(),
    )
    return out


launch = dispatch.Launchers(
    "mixed_block", {"cpu": _cpu, "reference": mixed_block_reference}, needs={"cpu": lambda: blas.sgemm()[1]}
)

mixed_block_op = blas.register(
    launch,
    "(Tensor x, Tensor depthwise_weight, Tensor[] weights, Tensor[] biases, Tensor norm_weight, Tensor norm_bias, "
    "int heads, Tensor? key_bias, Tensor? cu_seqlens, float eps, str impl) -> Tensor",
)
