"""Checks of arguments that the ops share. Each failure is one sentence that names the op and the argument."""

import os

import torch

_READ_FROM_GPU = os.environ.get("BERTKERNELS_CHECK_SEQUENCES", "0") == "1"

ANY_RANK = tuple(range(1, 65))  # of a tensor that is no scalar
FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def tensor(op: str, name: str, x: torch.Tensor, rank: int | tuple[int, ...], shape: str) -> None:
    """`x` is a floating tensor of this rank (or one of these) whose last dimension is contiguous."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{op}: {name} must be a tensor {shape}, got {type(x).__name__}")
    if x.dim() != rank if isinstance(rank, int) else x.dim() not in rank:
        raise ValueError(f"{op}: {name} must be {shape}, got shape {list(x.shape)}")
    if x.dtype not in FLOATING:
        raise TypeError(f"{op}: {name} must be float64, float32, bfloat16 or float16, got {x.dtype}")
    if x.stride()[-1] != 1 and x.shape[-1] > 1:
        raise ValueError(
            f"{op}: the last dimension of {name} must be contiguous, its stride is {x.stride(-1)}; "
            f"call {name}.contiguous() first"
        )


def shape(op: str, name: str, x: torch.Tensor, expected: tuple[int, ...], described: str) -> None:
    """`x` has exactly this shape; `described` says it in letters, such as "[B, T, H, K]"."""
    if x.shape != expected:
        raise ValueError(f"{op}: {name} must be {described} = {list(expected)}, got {list(x.shape)}")


def companion(
    op: str, name: str, x: torch.Tensor, expected: tuple[int, ...], described: str, like_name: str, like: torch.Tensor
) -> None:
    """All three of `tensor`, `shape` and `alike`, in one look where they hold."""
    fits = (
        isinstance(x, torch.Tensor)
        and x.shape == expected
        and x.dtype == like.dtype
        and x.device == like.device
        and x.stride()[-1] == 1
        and x.dtype in FLOATING
    )
    if not fits:
        tensor(op, name, x, len(expected), str(list(expected)))
        shape(op, name, x, expected, described)
        alike(op, name, x, like_name, like)


def rows(op: str, x: torch.Tensor, channels: int) -> None:
    """`x` is […, C], of so many channels C."""
    tensor(op, "x", x, ANY_RANK, "[…, C]")
    if x.shape[-1] != channels:
        raise ValueError(f"{op}: x must have {channels} channels, got {list(x.shape)}")


def tokens(
    op: str,
    x: torch.Tensor,
    key_bias: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    channels: int | None = None,
) -> None:
    """`x` is [B, T, C], perhaps with `key_bias` [B, T], or packed [total, C] with `cu_seqlens`."""
    tensor(op, "x", x, (2, 3), "[B, T, C] or packed [total, C]")
    sequences(op, "x", x, None, cu_seqlens, padded_rank=3)
    if channels is not None and x.shape[-1] != channels:
        raise ValueError(f"{op}: x must have {channels} channels, got {list(x.shape)}")
    if key_bias is not None:
        if cu_seqlens is not None:
            raise ValueError(f"{op}: key_bias goes with the padded form; packed sequences need none")
        companion(op, "key_bias", key_bias, x.shape[:2], "[B, T]", "x", x)


def vector(op: str, name: str, x: torch.Tensor | None, size: int, like: torch.Tensor) -> None:
    """`x` is None or a contiguous [size] of `like`'s dtype and device, where `like` is the argument x."""
    if x is not None:
        companion(op, name, x, (size,), "one number a channel", "x", like)


def no_gradients(op: str, *inputs: torch.Tensor | None) -> None:
    """None of the inputs asks for a gradient, which this op would not compute."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        raise RuntimeError(f"{op}: this op is for inference and has no gradients: call it under torch.no_grad()")


def alike(op: str, name: str, x: torch.Tensor, like_name: str, like: torch.Tensor) -> None:
    """`x` has the dtype and the device of `like`. Under autocast dtypes may differ: the op casts both."""
    if x.device != like.device:
        raise ValueError(f"{op}: {name} is on {x.device}, {like_name} on {like.device}; both must be on one device")
    if x.dtype != like.dtype and not torch.is_autocast_enabled(like.device.type):
        raise TypeError(f"{op}: {name} is {x.dtype}, {like_name} is {like.dtype}; both must have one dtype")


def sequences(
    op: str, name: str, x: torch.Tensor, lengths: torch.Tensor | None, cu_seqlens: torch.Tensor | None, padded_rank: int
) -> None:
    """`lengths` goes with a padded `x` [B, T, …], `cu_seqlens` with a packed one [total, …]; both int32, on its device.

    Only shapes are looked at here: contents are checked where they can be read without waiting for a device.
    """
    if lengths is not None and cu_seqlens is not None:
        raise ValueError(f"{op}: give lengths (padded form) or cu_seqlens (packed form), not both")
    if cu_seqlens is not None:
        _int32_vector(op, "cu_seqlens", cu_seqlens, x, name)
        if cu_seqlens.shape[0] < 1:
            raise ValueError(f"{op}: cu_seqlens must be [B + 1] and start with 0, got an empty tensor")
        if x.dim() != padded_rank - 1:
            raise ValueError(
                f"{op}: with cu_seqlens {name} must have {padded_rank - 1} dimensions, got {list(x.shape)}"
            )
        return
    if x.dim() != padded_rank:
        raise ValueError(f"{op}: without cu_seqlens {name} must have {padded_rank} dimensions, got {list(x.shape)}")
    if lengths is not None:
        _int32_vector(op, "lengths", lengths, x, name)
        if lengths.shape[0] != x.shape[0]:
            raise ValueError(f"{op}: lengths must be [B] = [{x.shape[0]}], got {list(lengths.shape)}")


def _int32_vector(op: str, name: str, vector: torch.Tensor, x: torch.Tensor, x_name: str) -> None:
    if not isinstance(vector, torch.Tensor) or vector.dim() != 1 or vector.dtype != torch.int32:
        got = f"{vector.dtype} {list(vector.shape)}" if isinstance(vector, torch.Tensor) else type(vector).__name__
        raise TypeError(f"{op}: {name} must be a one-dimensional int32 tensor, got {got}")
    if vector.device != x.device:
        raise ValueError(f"{op}: {name} is on {vector.device}, {x_name} on {x.device}; both must be on one device")


def sequence_values(op: str, tokens: int, lengths: torch.Tensor | None, cu_seqlens: torch.Tensor | None) -> None:
    """`lengths` lie in 0..T; `cu_seqlens` run from 0 to all tokens and never decrease. Looked at where `_readable`.

    Elsewhere implementations see to it that nothing outside the tensors is read or written, whatever these hold:
    lengths count as clamped to 0..T and entries of cu_seqlens to 0..tokens. Where cu_seqlens then still decrease, or do
    not reach from 0 to all tokens, what comes out for tokens of no sequence, or of several, is undefined.
    """
    if lengths is not None and lengths.numel() and _readable(lengths):
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > tokens:
            raise ValueError(f"{op}: lengths must lie in 0..T = 0..{tokens}, got {low}..{high}")
    if cu_seqlens is not None and _readable(cu_seqlens):
        if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != tokens:
            raise ValueError(
                f"{op}: cu_seqlens must run from 0 to the number of tokens {tokens}, "
                f"got {int(cu_seqlens[0])}..{int(cu_seqlens[-1])}"
            )
        if bool((cu_seqlens.diff() < 0).any()):
            raise ValueError(f"{op}: cu_seqlens must not decrease, got {cu_seqlens.tolist()[:16]}")


def _readable(vector: torch.Tensor) -> bool:
    """Whether contents are looked at: on a GPU each call would wait for it, so only where asked to, for debugging."""
    if vector.device.type == "cpu":
        return True
    return _READ_FROM_GPU and not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())
