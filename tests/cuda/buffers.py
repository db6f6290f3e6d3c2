"""Tensors for kernels that must touch nothing else: they lie between NaN, on an address of choice."""

import torch


def guarded(sizes, dtype, *, margin=64, offset=0):
    """NaN-filled [*sizes], contiguous, inside a larger buffer of NaN; `offset` elements off a 16-byte boundary."""
    count = torch.Size(sizes).numel()
    buffer = torch.full((count + 2 * margin + 16,), float("nan"), dtype=dtype)
    start = margin - buffer.data_ptr() // buffer.element_size() % (16 // buffer.element_size()) + offset
    return buffer[start : start + count].view(sizes)


def surroundings_untouched(x):
    """Whether nothing was written beside `x` in the buffer of `guarded`."""
    buffer = x._base
    inside = torch.zeros_like(buffer, dtype=torch.bool)
    inside.as_strided(x.shape, x.stride(), x.storage_offset()).fill_(True)
    return bool(buffer[~inside].isnan().all())


def draw(sizes, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = guarded(sizes, dtype)
    return x.copy_(torch.randn(sizes, generator=generator, dtype=torch.float64))


def with_strides(x, strides):
    """`x` copied into memory with these strides for all dimensions but the last; NaN in the gaps."""
    length = sum((n - 1) * stride for n, stride in zip(x.shape, (*strides, 1), strict=True)) + 1
    return guarded((length,), x.dtype).as_strided(x.shape, (*strides, 1)).copy_(x)
