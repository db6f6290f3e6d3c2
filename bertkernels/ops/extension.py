"""The compiled extension `bertkernels._C`, or the reason why it is not there."""

import torch  # noqa: F401  (first, so that both share the OpenMP runtime torch loads)

BUILD_COMMAND = (
    "pip install --force-reinstall --no-deps bertkernels  (in a checkout: python setup.py build_ext --inplace)"
)

try:
    from bertkernels import _C as C

    REASON = ""
except ImportError as error:
    C = None
    REASON = f"the compiled extension is not there ({error}); build it with: {BUILD_COMMAND}"


def has(symbol: str) -> bool:
    """Whether the extension is there and was built with this function."""
    return C is not None and hasattr(C, symbol)


# The compiled code's numbers for dtypes (csrc/dtype.h).
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


def empty_like(x: torch.Tensor) -> torch.Tensor:
    """Contiguous room for a tensor of x's shape, dtype and device: faster than `x.new_empty(x.shape)`."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def rows_operand(x: torch.Tensor) -> tuple[int, int]:
    """The rows of x […, C], contiguous or a matrix, as the compiled code takes them: address, and distance of two."""
    return x.data_ptr(), x.shape[-1] if x.is_contiguous() else x.stride()[0]


def operand(x: torch.Tensor) -> tuple[int, ...]:
    """A tensor as the compiled code takes it: its address, then the strides of all dimensions but the last."""
    return (x.data_ptr(), *x.stride()[:-1])
