"""What is measured: one op or encoder at one shape, in one mode, by several peers."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from bertkernels.models.presets import preset

from .timing import TwoSteps

FORWARD, BOTH = "forward", "forward+backward"
BACKWARD = "backward"  # no case of its own: it is timed within those of BOTH
# What a record of results holds. A profile is no case of its own either: it is taken of a case whose times are.
TIMES, GROWTH, MEMORY, PROFILE = "times", "growth", "memory", "profile"


@dataclass(frozen=True)
class Case:
    """One op (or "encoder") at one shape.

    Attributes:
        op: a name from `bertkernels.bench.OPS`.
        size: a published ConvBERT: "small", "medium-small" or "base".
        batch, tokens: B sequences of T tokens, all of them real if `text` is None.
        mode: "forward", without gradients, or "forward+backward", in which backward is also timed alone.
        dtype: name of a torch dtype, such as "float32".
        device: "cpu" or "cuda".
        compiled: whether peers that take `torch.compile` are among them; it is slow to compile, not to run.
        text: the task whose sentences' lengths a padded batch has; None: all tokens are real.
        memory: whether peak memory is measured too where that takes a process for each peer (CPU).
        profile: whether a call of ours is profiled too (encoders).
        record: what is measured: "times" of all peers, "growth" of the time with the number of tokens up to T, or peak
            "memory" alone, for cases that take too long to be timed.
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
    memory: bool = False
    profile: bool = False
    record: str = TIMES

    @property
    def label(self) -> str:
        batch = f"B{self.batch}·T{self.tokens}" if self.text is None else f"{self.text} B{self.batch}"
        record = "" if self.record == TIMES else f", {self.record}"
        return f"{self.op} {self.size} {batch} {self.mode} {self.dtype}{record}"

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


@dataclass(frozen=True)
class Peer:
    """One way to do a case's work.

    Attributes:
        forward: what there is to do in mode "forward": returns what it computed, a tuple of tensors. With a backward
            pass, the first of two steps: returns what the second one takes.
        backward: the second step: returns outputs, then gradients.
        floor: it does only a part of the work that nobody can leave out (a copy of the bytes, the matrix products), so
            that its results are not compared.
        easier: it does something else that is less work, to compare with: its results are not compared either.
        compiled: it goes through torch.compile, which needs a working compiler.
        compared: what is called to compare results, where chance decides what the timed calls give (dropout).
    """

    forward: Callable[[], object]
    backward: Callable[[object], object] | None = None
    floor: bool = False
    easier: bool = False
    compiled: bool = False
    compared: Callable[[], tuple[torch.Tensor, ...]] | None = None

    @property
    def call(self) -> Callable[[], object]:
        """All of the work in one call."""
        return self.forward if self.backward is None else TwoSteps(self.forward, self.backward)


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


def differentiable(
    function: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...], grad: torch.Tensor, **what: bool
) -> Peer:
    """The peer of this function: its output, then the gradients of all inputs for this gradient of the output.

    Nothing is accumulated, and each call builds its graph anew.
    """

    def backward(out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return out, *torch.autograd.grad(out, inputs, grad)

    return Peer(lambda: function(*inputs), backward, **what)


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
