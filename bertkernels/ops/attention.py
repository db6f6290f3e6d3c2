"""`attention`: softmax attention on [B, T, H, D] and on packed sequences."""

import functools

import torch

from . import checks, dispatch, extension, philox, registry
from .rectangle import rectangle_of
from .sequences import dense
from .torch_attention import torch_attention


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    max_seqlen: int | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """softmax(query · keyᵀ · scale + mask) · value, for each head and sequence (Vaswani et al. 2017, eq. 1).

    Nothing of size T² is kept: the backward pass computes the probabilities anew (Dao et al. 2022, "FlashAttention").

    Args:
        query, key, value: [B, T, H, D] each, or packed [total, H, D]; one dtype and device, any strides with a
            contiguous last dimension.
        attention_mask: padded form only: bool (True: may be attended) or additive, broadcastable to [B, H, T, T],
            usually [B, 1, 1, T]. A query that may attend nothing gets zeros. Gradients of a mask and masks that are not
            the same for all heads and queries are for "torch" alone, which then is the default.
        dropout_p: dropout on the attention probabilities, from 0 to 1; pass 0 outside training. It counts in units of
            2⁻¹⁶ but for "torch". The seed comes from torch's generator of the device.
        scale: 1/√D if None.
        lengths: int32 [B], padded form: tokens past a sequence's length are not attended, whatever they hold, and come
            out as zeros.
        cu_seqlens: int32 [B + 1], packed form: tokens attend within their own sequence, that is tokens cu_seqlens[b] to
            cu_seqlens[b + 1] - 1.
        max_seqlen: packed form: length of the longest sequence, or more, where the caller knows it. On a GPU the call
            waits for `cu_seqlens` without it.
        impl: "cpu", "torch" (torch's scaled dot-product attention) or "reference"; None takes the best that can run.

    Returns:
        [B, T, H, D] (or [total, H, D]) of `query`'s dtype. "cpu" and "reference" add up in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: shapes, dtypes, devices, strides, or contents of `lengths`/`cu_seqlens` do not fit. On a
            GPU contents are read as seldom as by `light_conv`, and those out of range do as little harm.
        RuntimeError: `impl` asks for an implementation that cannot run here, or not with this mask.
    """
    check("attention", query, key, value, attention_mask, dropout_p, lengths, cu_seqlens)
    run = launch.functions[resolve("attention", query, attention_mask, impl)]
    return run(query, key, value, attention_mask, dropout_p, scale, lengths, cu_seqlens, max_seqlen)


def check(
    op: str,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout_p: float,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
) -> None:
    """Raises where these do not make self-attention."""
    checks.tensor(op, "query", query, (3, 4), "[B, T, H, D] or packed [total, H, D]")
    checks.sequences(op, "query", query, lengths, cu_seqlens, padded_rank=4)
    for name, x in (("key", key), ("value", value)):
        checks.companion(op, name, x, query.shape, "query's shape", "query", query)
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"{op}: dropout_p must be from 0 to 1, got {dropout_p}")
    if attention_mask is not None:
        _check_mask(op, attention_mask, query, cu_seqlens)


def _check_mask(op: str, mask: torch.Tensor, query: torch.Tensor, cu_seqlens: torch.Tensor | None) -> None:
    if cu_seqlens is not None:
        raise ValueError(f"{op}: attention_mask goes with the padded form; packed sequences need none")
    if not isinstance(mask, torch.Tensor) or not (mask.dtype == torch.bool or mask.is_floating_point()):
        got = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise TypeError(f"{op}: attention_mask must be a bool or floating tensor, got {got}")
    if mask.device != query.device:
        raise ValueError(
            f"{op}: attention_mask is on {mask.device}, query on {query.device}; both must be on one device"
        )
    batch, tokens, heads, _ = query.shape
    full = (batch, heads, tokens, tokens)
    if mask.dim() > 4 or any(size not in (1, most) for size, most in zip(mask.shape[::-1], full[::-1], strict=False)):
        raise ValueError(
            f"{op}: attention_mask must broadcast to [B, H, T, T] = {list(full)}, got shape {list(mask.shape)}"
        )


def resolve(op: str, query: torch.Tensor, attention_mask: torch.Tensor | None, impl: str | None) -> str:
    """The implementation that a call gets: kernels of our own add one number to all scores of a key."""
    impl = dispatch.requested(impl)
    if attention_mask is not None and (attention_mask.requires_grad or not _is_by_key(attention_mask, query)):
        if impl not in ("", "torch"):
            raise RuntimeError(
                f"{op}: implementation {impl!r} was asked for but cannot run: it takes only masks without a gradient "
                "that are the same for all heads and queries, such as [B, 1, 1, T]"
            )
        impl = "torch"
    return dispatch.resolve(op, query.device.type, impl)


def _is_by_key(mask: torch.Tensor, query: torch.Tensor) -> bool:
    """Whether the mask is the same for all heads and queries, as [B, 1, 1, T] is."""
    same = (1, *mask.shape)[-3:-1] if mask.dim() < 4 else mask.shape[1:3]
    return mask.dim() > 0 and all(size == 1 for size in same) and mask.shape[-1] == query.shape[1]


def key_bias_of(attention_mask: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor | None:
    """A mask that is the same for all heads and queries as what it adds to the scores of each key: [B, T]."""
    if attention_mask is None:
        return None
    rows = attention_mask.reshape(-1, query.shape[1])  # [B or 1, T]
    if rows.dtype == torch.bool:
        rows = torch.zeros(rows.shape, dtype=query.dtype, device=rows.device).masked_fill(~rows, -torch.inf)
    return rows.to(query.dtype).expand(query.shape[:2])


def draw_seed(query: torch.Tensor, dropout_p: float) -> torch.Tensor | None:
    return philox.draw_seed(query.device) if dropout_p else None


# -- reference ---------------------------------------------------------------------------------------------------------


def attention_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    seed: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The specification of `attention`, in plain torch operations; differentiable; sums in fp32 or fp64.

    Returns:
        the output, and ln Σ exp(score) [B, T, H] (or [total, H]) over each query's keys in fp32 or fp64, where scores
        count from the largest key_bias of their sequence; 0 for queries that may attend nothing.
    """
    if cu_seqlens is not None:
        rectangle = rectangle_of(cu_seqlens, query.shape[0])
        padded = (rectangle.spread(x) for x in (query, key, value))
        out, lse = attention_reference(*padded, None, rectangle.lengths, None, seed, dropout_p, scale)
        return rectangle.gather(out), rectangle.gather(lse)
    (_, _, values), probabilities, keep, lse = _probabilities(
        query, key, value, key_bias, lengths, seed, dropout_p, scale
    )
    out = torch.einsum("bhqk,bkhd->bqhd", probabilities * keep, values)
    return out.to(query.dtype), lse


def attention_backward_reference(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    seed: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `attention` with respect to query, key and value, derived by hand."""
    if cu_seqlens is not None:
        rectangle = rectangle_of(cu_seqlens, query.shape[0])
        padded = (rectangle.spread(x) for x in (grad, query, key, value))
        gradients = attention_backward_reference(*padded, None, rectangle.lengths, None, seed, dropout_p, scale)
        return tuple(rectangle.gather(gradient) for gradient in gradients)
    (queries, keys, values), probabilities, keep, _ = _probabilities(
        query, key, value, key_bias, lengths, seed, dropout_p, scale
    )
    grad = grad.to(values.dtype)
    if lengths is not None:
        grad = grad.masked_fill(_padding(query, lengths), 0)
    d_values = torch.einsum("bhqk,bqhd->bkhd", probabilities * keep, grad)
    d_probabilities = torch.einsum("bqhd,bkhd->bhqk", grad, values) * keep
    mean = (d_probabilities * probabilities).sum(-1, keepdim=True)
    d_scores = probabilities * (d_probabilities - mean) * softmax_scale(query, scale)
    d_queries = torch.einsum("bhqk,bkhd->bqhd", d_scores, keys)
    d_keys = torch.einsum("bhqk,bqhd->bkhd", d_scores, queries)
    return d_queries.to(query.dtype), d_keys.to(key.dtype), d_values.to(value.dtype)


def dropout_factors(
    seed: torch.Tensor, batch: int, heads: int, tokens: int, dropout_p: float, dtype: torch.dtype
) -> torch.Tensor:
    """What dropout multiplies the probabilities by: 0, or one over the share that is kept. [B, H, T, T]

    A probability has a number of 16 bits, and is dropped where that is below dropout_p · 2¹⁶:

        half (key mod 8) of Philox(seed; query, ⌊key / 8⌋, head, sequence)

    The four words that Philox makes of a counter have eight halves, the low one of the first word first; query and key
    count from the start of their sequence.
    """
    place = torch.arange(max(batch, heads, tokens), device=seed.device)
    counter = (
        place[:tokens, None],
        place[: -(-tokens // 8)],
        place[:heads, None, None],
        place[:batch, None, None, None],
    )
    words = torch.broadcast_tensors(*philox.words(seed, *counter))  # [B, H, T, T / 8] each
    halves = [word >> shift & 0xFFFF for word in words for shift in (0, 16)]
    numbers = torch.stack(halves, -1).flatten(-2)[..., :tokens]  # [B, H, T, T]
    dropped = _dropped(dropout_p)
    kept = 2**16 / (2**16 - dropped) if dropped < 2**16 else 0.0
    return (numbers >= dropped).to(dtype) * kept


def _dropped(dropout_p: float) -> int:
    """How many of 2¹⁶ probabilities are dropped."""
    return round(dropout_p * 2**16)


def softmax_scale(query: torch.Tensor, scale: float | None) -> float:
    return query.shape[-1] ** -0.5 if scale is None else scale


def _padding(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Where x [B, T, H, D] is padding: [B, T, 1, 1]."""
    return (torch.arange(x.shape[1], device=x.device) >= lengths[:, None])[..., None, None]


def _probabilities(query, key, value, key_bias, lengths, seed, dropout_p, scale):
    """query, key and value in fp32 or fp64, zero at padding; their probabilities; those' dropout factors, [B, H, T, T]
    each; and the log-sum-exp [B, T, H]."""
    accumulate = torch.promote_types(query.dtype, torch.float32)
    batch, tokens, heads, _ = query.shape
    query, key, value = (x.to(accumulate) for x in (query, key, value))
    bias = query.new_zeros(batch, tokens) if key_bias is None else key_bias.to(accumulate)  # [B, T]
    if lengths is not None:
        padding = _padding(query, lengths)
        query, key, value = (x.masked_fill(padding, 0) for x in (query, key, value))
        bias = bias.masked_fill(padding[..., 0, 0], -torch.inf)
    top = bias.amax(-1, keepdim=True) if tokens else bias  # [B, 1]
    top = top.masked_fill(top == -torch.inf, 0)

    scores = torch.einsum("bqhd,bkhd->bhqk", query * softmax_scale(query, scale), key)
    scores = (scores + bias[:, None, None, :]) - top[:, None, None]
    most = scores.detach().amax(-1, keepdim=True) if tokens else scores  # [B, H, T, 1]
    most = most.masked_fill(most == -torch.inf, 0)
    exponentials = (scores - most).exp()
    total = exponentials.sum(-1, keepdim=True)
    nothing = total == 0  # may be attended
    if lengths is not None:
        nothing = nothing | padding.transpose(1, 2)  # as queries: [B, 1, T, 1]
    probabilities = torch.where(nothing, 0, exponentials / torch.where(nothing, 1, total))
    lse = torch.where(nothing, 0, most + total.log())[..., 0].transpose(1, 2)
    keep = torch.ones((), dtype=accumulate, device=query.device)
    if seed is not None:
        keep = dropout_factors(seed, batch, heads, tokens, dropout_p, accumulate)
    return (query, key, value), probabilities, keep, lse


# -- the registered op -------------------------------------------------------------------------------------------------
# (query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl) -> (out, lse); impl is a name by now.


def _forward(query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl):
    out, lse = _forward_fake(query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl)
    forward_into(out, lse, query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl)
    return out, lse


def forward_into(out, lse, query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl) -> None:
    """Writes output and log-sum-exp; `out` may be a slice of a wider buffer (last dimension contiguous)."""
    for name, x in (("key", key), ("value", value)):  # only settled here under autocast, which leaves fp64 as it is
        checks.alike("attention", name, x, "query", query)
    if out.numel():
        run = _FORWARD[impl]
        run(out, lse, query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, softmax_scale(query, scale))
    else:
        lse.zero_()


def lse_like(query: torch.Tensor) -> torch.Tensor:
    """Room for the log-sum-exp: [B, T, H] (or [total, H])."""
    return query.new_empty(query.shape[:-1], dtype=torch.promote_types(query.dtype, torch.float32))


def _forward_fake(query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl):
    return torch.empty_like(query, memory_format=torch.contiguous_format), lse_like(query)


def _backward(grad, query, key, value, out, lse, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl):
    gradients = tuple(map(extension.empty_like, (query, key, value)))
    inputs = (query, key, value, out, lse, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl)
    backward_into(gradients, grad, *inputs)
    return gradients


def backward_into(
    gradients, grad, query, key, value, out, lse, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl
) -> None:
    """Writes the gradients of query, key and value."""
    if query.numel():
        run, factor = _BACKWARD[impl], softmax_scale(query, scale)
        run(gradients, grad, query, key, value, out, lse, key_bias, lengths, cu_seqlens, seed, dropout_p, factor)


def _backward_fake(grad, query, key, value, out, lse, key_bias, lengths, cu_seqlens, seed, dropout_p, scale, impl):
    return tuple(x.new_empty(x.shape) for x in (query, key, value))


def rows(x: torch.Tensor) -> torch.Tensor:
    """`x` with a contiguous last dimension: gradients may come expanded (stride 0) or transposed."""
    return x if x.stride()[-1] == 1 or x.shape[-1] == 1 else x.contiguous()


# -- launchers ---------------------------------------------------------------------------------------------------------


def _shape(query, lengths, cu_seqlens, seed, dropout_p, scale):
    """The call's sizes as the compiled code takes them. Packed: B sequences, T tokens in all."""
    batches, tokens = query.shape[:2] if cu_seqlens is None else (cu_seqlens.shape[0] - 1, query.shape[0])
    return (
        batches,
        tokens,
        *query.shape[-2:],
        0 if lengths is None else lengths.data_ptr(),
        0 if cu_seqlens is None else cu_seqlens.data_ptr(),
        scale,
        0 if seed is None else _dropped(dropout_p),
        0 if seed is None else seed.data_ptr(),
        extension.DTYPES[query.dtype],
    )


def _bias_operand(key_bias: torch.Tensor | None) -> tuple[int, int]:
    return (0, 0) if key_bias is None else extension.operand(key_bias)


def _cpu_forward(out, lse, query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale):
    query, key, value = rows(query), rows(key), rows(value)
    key_bias = None if key_bias is None else rows(key_bias)
    lengths, cu_seqlens = dense(lengths), dense(cu_seqlens)
    extension.C.attention_forward_cpu(
        _shape(query, lengths, cu_seqlens, seed, dropout_p, scale),
        *(extension.operand(x) for x in (query, key, value)),
        _bias_operand(key_bias),
        extension.operand(out),
        lse.data_ptr(),
        torch.get_num_threads(),
    )


def _cpu_backward(gradients, grad, query, key, value, out, lse, key_bias, lengths, cu_seqlens, seed, dropout_p, scale):
    grad, query, key, value, out = rows(grad), rows(query), rows(key), rows(value), rows(out)
    key_bias = None if key_bias is None else rows(key_bias)
    lengths, cu_seqlens, lse = dense(lengths), dense(cu_seqlens), lse.contiguous()
    extension.C.attention_backward_cpu(
        _shape(query, lengths, cu_seqlens, seed, dropout_p, scale),
        *(extension.operand(x) for x in (grad, query, key, value)),
        _bias_operand(key_bias),
        extension.operand(out),
        lse.data_ptr(),
        *(extension.operand(x) for x in gradients),
        torch.get_num_threads(),
    )


def _reference_forward(out, lse, query, key, value, key_bias, lengths, cu_seqlens, seed, dropout_p, scale):
    checks.sequence_values("attention", query.shape[-3], lengths, cu_seqlens)
    options = (key_bias, lengths, cu_seqlens, seed, dropout_p, scale)
    for to, result in zip((out, lse), attention_reference(query, key, value, *options), strict=True):
        to.copy_(result)


def _reference_backward(
    gradients, grad, query, key, value, out, lse, key_bias, lengths, cu_seqlens, seed, dropout_p, scale
):
    checks.sequence_values("attention", query.shape[-3], lengths, cu_seqlens)
    options = (key_bias, lengths, cu_seqlens, seed, dropout_p, scale)
    results = attention_backward_reference(grad, query, key, value, *options)
    for to, result in zip(gradients, results, strict=True):
        to.copy_(result)


_FORWARD = {"cpu": _cpu_forward, "reference": _reference_forward}
_BACKWARD = {"cpu": _cpu_backward, "reference": _reference_backward}


def _registered(
    impl, query, key, value, attention_mask, dropout_p, scale, lengths, cu_seqlens, max_seqlen
) -> torch.Tensor:
    bias, seed = key_bias_of(attention_mask, query), draw_seed(query, dropout_p)
    return attention_op(query, key, value, bias, lengths, cu_seqlens, seed, dropout_p, scale, impl)[0]


launch = dispatch.Launchers(
    "attention",
    {
        "cpu": functools.partial(_registered, "cpu"),
        "torch": torch_attention,
        "reference": functools.partial(_registered, "reference"),
    },
)


# -- torch ops and autograd --------------------------------------------------------------------------------------------

_OPTIONS = (
    "Tensor? key_bias, Tensor? lengths, Tensor? cu_seqlens, Tensor? seed, float dropout_p, float? scale, str impl"
)

attention_op = registry.register(
    "attention",
    f"(Tensor query, Tensor key, Tensor value, {_OPTIONS}) -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
attention_backward_op = registry.register(
    "attention_backward",
    f"(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor out, Tensor lse, {_OPTIONS})"
    " -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    autocast=False,
)


def _setup_context(ctx, inputs, output):
    *tensors, ctx.dropout_p, ctx.scale, ctx.impl = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors[:3], *output, *tensors[3:])


def _autograd_backward(ctx, grad, _):
    if grad is None:
        return (None,) * 10
    gradients = attention_backward_op(grad, *ctx.saved_tensors, ctx.dropout_p, ctx.scale, ctx.impl)
    return *gradients, *(None,) * 7


attention_op.differentiate(_autograd_backward, _setup_context)
