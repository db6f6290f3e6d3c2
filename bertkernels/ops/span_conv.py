"""`span_conv`: ConvBERT's span-based dynamic convolution, from the projections to its heads' outputs."""

import torch

from .depthwise_conv import depthwise_conv
from .light_conv import light_conv
from .linear import linear


def span_conv(
    x: torch.Tensor,
    query: torch.Tensor,
    values: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor | None,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor | None,
    *,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """Span-based dynamic convolution (Jiang et al. 2020, §3.2, eq. 5).

        light_conv(values, span_conv_logits(x, query, …))

    Args:
        values: [B, T, H, D], or packed [total, H, D].
        the others: as for `span_conv_logits`.

    Returns:
        [B, T, H, D] (or [total, H, D]).
    """
    logits = span_conv_logits(
        x,
        query,
        depthwise_weight,
        pointwise_weight,
        pointwise_bias,
        kernel_weight,
        kernel_bias,
        lengths=lengths,
        cu_seqlens=cu_seqlens,
        impl=impl,
    )
    return light_conv(values, logits, lengths=lengths, cu_seqlens=cu_seqlens, impl=impl)


def span_conv_logits(
    x: torch.Tensor,
    query: torch.Tensor,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor | None,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor | None,
    *,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """The kernels, before their softmax, that each token's span of neighbours and its query generate.

        key = depthwise_conv(x) · pointwiseᵀ + pointwise_bias;   logits = (key ⊙ query) · kernelᵀ + kernel_bias

    Args:
        x: [B, T, C], or packed [total, C]: the block's input.
        query: [B, T, H, D] (or [total, H, D]): shared with the attention heads.
        depthwise_weight: [C, S], S the width of the span.
        pointwise_weight: [H·D, C]; pointwise_bias: [H·D] or None.
        kernel_weight: [H·K, H·D], rows head-major and tap-minor; kernel_bias: [H·K] or None.
        lengths, cu_seqlens, impl: as for `depthwise_conv`.

    Returns:
        [B, T, H, K] (or [total, H, K]).
    """
    heads, width = query.shape[-2:]
    expected = {
        "pointwise_weight": (pointwise_weight, (heads * width, x.shape[-1]), "[H·D, C]"),
        "kernel_weight": (kernel_weight, (kernel_weight.shape[0], heads * width), "[H·K, H·D]"),
        "query": (query, (*x.shape[:-1], heads, width), "x's tokens with heads and head width"),
    }
    for name, (tensor, shape, letters) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"span_conv: {name} must be {letters} = {list(shape)}, got {list(tensor.shape)}")
    if kernel_weight.shape[0] % heads:
        raise ValueError(f"span_conv: kernel_weight has {kernel_weight.shape[0]} rows, not a multiple of {heads} heads")
    spans = depthwise_conv(x, depthwise_weight, lengths=lengths, cu_seqlens=cu_seqlens, impl=impl)  # [B, T, C]
    keys = linear(spans, pointwise_weight, pointwise_bias, multiplier=query.flatten(-2), impl="torch")  # [B, T, H·D]
    logits = linear(keys, kernel_weight, kernel_bias, impl="torch")  # [B, T, H·K]
    return logits.unflatten(-1, (heads, -1))
