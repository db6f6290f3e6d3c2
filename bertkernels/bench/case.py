"""What is measured: one op or encoder at one shape, in one mode, by several peers."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from bertkernels.models.presets import preset

FORWARD, BOTH = "forward", "forward+backward"


@dataclass(frozen=True)
class Case:
    """One op (or "encoder") at one shape.

    Attributes:
        op: a name from `bertkernels.bench.OPS`.
        size: a published ConvBERT: "small", "medium-small" or "base".
        batch, tokens: B sequences of T tokens, all of them real if `text` is None.
        mode: "forward" or "forward+backward".
        dtype: name of a torch dtype, such as "float32".
        device: "cpu" or "cuda".
        compiled: whether peers that take `torch.compile` are among them; it is slow to compile, not to run.
        text: the task whose sentences' lengths a padded batch has; None: all tokens are real.
    """

    op: str
    size: str
    batch: int
    tokens: int
    mode: str = FORWARD
    dtype: str = "float32"
    device: str = "cpu"
    compiled: bool = False
    text: str | None = None

    @property
    def label(self) -> str:
        batch = f"B{self.batch}·T{self.tokens}" if self.text is None else f"{self.text} B{self.batch}"
        return f"{self.op} {self.size} {batch} {self.mode} {self.dtype}"

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


@dataclass(frozen=True)
class Peer:
    """One way to do a case's work.

    Attributes:
        call: does it and returns what it computed, a tuple of tensors: outputs, then gradients.
        floor: it does only a part of the work that nobody can leave out (a copy of the bytes, the matrix products), so
            that its results are not compared.
        compiled: it goes through torch.compile, which needs a working compiler.
    """

    call: Callable[[], tuple[torch.Tensor, ...]]
    floor: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Dimensions:
    """C channels, H heads of each kind, D head width, K taps, and the width of the feed-forward layer."""

    channels: int
    heads: int
    head_width: int
    taps: int
    intermediate: int


@functools.cache
def dimensions(size: str) -> Dimensions:
    """Those of the published ConvBERT of this size."""
    config = preset(f"convbert-{size}")
    heads = config.num_attention_heads // config.head_ratio
    head_width = config.hidden_size // config.num_attention_heads
    return Dimensions(config.hidden_size, heads, head_width, config.conv_kernel_size, config.intermediate_size)


def forward_and_backward(
    function: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...], grad: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """The output, then the gradients of all inputs for this gradient of the output. Nothing is accumulated."""
    out = function(*inputs)
    return out, *torch.autograd.grad(out, inputs, grad)


class Disagreement(AssertionError):
    """Two peers computed different things: none of their times is worth anything."""


# Distance from the first peer in units of the result's own length (its Euclidean norm).
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 1e-2}


def assert_agreement(results: Mapping[str, tuple[torch.Tensor, ...]]) -> None:
    """Raises Disagreement where a peer's results are not those of the first one."""
    (first, expected), *others = results.items()
    lengths = [_length(x) for x in expected]
    whole = sum(length**2 for length in lengths) ** 0.5
    for name, actual in others:
        if len(actual) != len(expected):
            raise Disagreement(f"{name!r} returned {len(actual)} tensors, {first!r} {len(expected)}")
        for i, (a, b, length) in enumerate(zip(actual, expected, lengths, strict=True)):
            if a.numel() != b.numel():
                raise Disagreement(f"result {i} of {name!r} is {list(a.shape)}, of {first!r} {list(b.shape)}")
            # some gradients are zero but for rounding (a key's bias): measure those by what all results are like
            scale = max(length, whole / 100)
            distance = _length(a.reshape(-1).double() - b.reshape(-1).double())
            if not distance <= _TOLERANCES[b.dtype] * scale:
                raise Disagreement(
                    f"result {i} of {name!r} is {distance / scale:.1e} away from that of {first!r}, "
                    f"more than {_TOLERANCES[b.dtype]:.0e}"
                )


def _length(x: torch.Tensor) -> float:
    return torch.linalg.vector_norm(x.detach().double()).item()
