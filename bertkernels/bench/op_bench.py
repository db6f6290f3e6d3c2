"""From an op's shapes and functions to the peers of its cases."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from bertkernels.ops import dispatch

from .case import BOTH, Case, Peer, forward_and_backward

HUGGING_FACE = "Hugging Face"
HUGGING_FACE_COMPILED = "Hugging Face, compiled"
COPY = "copy of the same bytes"

Shape = tuple[int, ...]
Function = Callable[..., torch.Tensor]
Floor = Callable[[Case, tuple[torch.Tensor, ...], torch.Tensor], Callable[[], object]]


@dataclass(frozen=True)
class OpBench:
    """One op's benchmark.

    Attributes:
        op: its name in `bertkernels.ops`.
        shapes: case → shapes of the op's inputs, and of its output.
        ours: the op, called with the inputs and `impl`.
        others: name → function of the inputs; the first is Hugging Face's way.
        floor: name of the part of the work that cannot be left out, and case, inputs, gradient → a call that does it;
            None: a plain copy of as many bytes as the ideal op moves.
        compiled: whether Hugging Face's way is also measured through torch.compile.
    """

    op: str
    shapes: Callable[[Case], tuple[list[Shape], Shape]]
    ours: Function
    others: dict[str, Function]
    floor: tuple[str, Floor] | None = None
    compiled: bool = False

    def names(self, case: Case) -> list[str]:
        """Names of the case's peers: Hugging Face first."""
        return [*self._functions(case), self._floor[0]]

    def peers(self, case: Case, only: Collection[str] | None = None) -> dict[str, Peer]:
        """The case's peers on one set of random inputs; `only` those of these names."""
        generator = torch.Generator(case.device).manual_seed(0)
        input_shapes, output_shape = self.shapes(case)

        def random(shape: Shape) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=case.device, dtype=case.torch_dtype)

        both = case.mode == BOTH
        inputs = tuple(random(shape).requires_grad_(both) for shape in input_shapes)
        grad = random(output_shape)

        def call(function: Function) -> Callable[[], tuple[torch.Tensor, ...]]:
            if both:
                return lambda: forward_and_backward(function, inputs, grad)
            return lambda: (function(*inputs),)

        peers = {
            name: Peer(call(function), compiled=name == HUGGING_FACE_COMPILED)
            for name, function in self._functions(case).items()
        }
        floor, build = self._floor
        peers[floor] = Peer(build(case, tuple(x.detach() for x in inputs), grad), floor=True)
        return {name: peer for name, peer in peers.items() if only is None or name in only}

    def best(self, case: Case) -> str:
        """Name of the peer that users get on this device."""
        return our_name(self._implementations(case)[0])

    def bytes_moved(self, case: Case) -> int:
        """What an ideal op reads and writes: each input once, each output once; backward again, with gradients."""
        input_shapes, output_shape = self.shapes(case)
        read, written = sum(torch.Size(shape).numel() for shape in input_shapes), torch.Size(output_shape).numel()
        numbers = 3 * read + 2 * written if case.mode == BOTH else read + written
        return numbers * case.torch_dtype.itemsize

    @property
    def _floor(self) -> tuple[str, Floor]:
        return self.floor or (COPY, self._copy)

    def _copy(self, case: Case, inputs: tuple[torch.Tensor, ...], grad: torch.Tensor) -> Callable[[], object]:
        half = self.bytes_moved(case) // 2  # as many are written as are read
        source, target = (torch.zeros(half, dtype=torch.uint8, device=case.device) for _ in range(2))
        return lambda: target.copy_(source)

    def _functions(self, case: Case) -> dict[str, Function]:
        hugging_face, *others = self.others.items()
        functions = dict([hugging_face])
        if case.compiled and self.compiled:
            functions[HUGGING_FACE_COMPILED] = torch.compile(hugging_face[1], dynamic=False)
        return functions | dict(others) | {our_name(impl): self._ours_on(impl) for impl in self._implementations(case)}

    def _ours_on(self, impl: str) -> Function:
        return lambda *inputs: self.ours(*inputs, impl=impl)

    def _implementations(self, case: Case) -> list[str]:
        """Best first; the reference only where nothing else can run. (Triton's interpreter is no implementation.)"""
        *kernels, reference = dispatch.PREFERENCE[case.device]
        return [impl for impl in kernels if dispatch.can_run(self.op, impl, case.device)[0]] or [reference]


def our_name(impl: str) -> str:
    return f"bertkernels ({impl})"
