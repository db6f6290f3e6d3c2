"""From an op's shapes and functions to the peers of its cases."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from bertkernels.ops import dispatch

from .case import BACKWARD, BOTH, FORWARD, Case, Peer, differentiable
from .matrix_products import PRODUCTS, Operands, operations, products

HUGGING_FACE = "Hugging Face"
HUGGING_FACE_COMPILED = "Hugging Face, compiled"
COPY = "copy of the same bytes"
KERNEL = "our kernel alone"

Shape = tuple[int, ...]
Function = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class OpBench:
    """One op's benchmark. Its peers are Hugging Face's way, eager and compiled, others, ours, and the floors.

    Attributes:
        op: its name in `bertkernels.ops`.
        shapes: case → shapes of the op's inputs, and of its output.
        ours: the op, called with the inputs and `impl`.
        others: name → function of the inputs; the first is Hugging Face's way.
        easier: name → shapes of its inputs, and a function of them: something else that is less work.
        kernel: inputs and `impl` → what launches the op's forward pass into memory that is there already, without
            torch's dispatch: easier than the op.
        operands: the op's inputs → its matrix products; none: bound by bytes alone.
        deviations: standard deviations of the inputs, the first ones' first; 1 for the rest. For weights, so that sums
            stay in the range in which a softmax is no step function.
        dropout_p: with what probability "forward+backward" drops elements; functions then take `dropout_p`. Results
            are compared without, since every implementation draws others.
    """

    op: str
    shapes: Callable[[Case], tuple[list[Shape], Shape]]
    ours: Function
    others: Mapping[str, Function]
    easier: Mapping[str, tuple[Callable[[Case], list[Shape]], Function]] = field(default_factory=dict)
    kernel: Callable[..., Callable[[], object]] | None = None
    operands: Callable[..., list[Operands]] | None = None
    deviations: Callable[[Case], tuple[float, ...]] = lambda _: ()
    dropout_p: float = 0.0

    def names(self, case: Case) -> list[str]:
        """Names of the case's peers: Hugging Face first, floors last."""
        floors = [COPY] if self.operands is None else [PRODUCTS, COPY]
        kernel = [KERNEL] if self.kernel is not None and case.mode == FORWARD else []
        return [*self._functions(case), *self.easier, *kernel, *floors]

    def peers(self, case: Case, only: Collection[str] | None = None) -> dict[str, Peer]:
        """The case's peers on one set of random inputs; `only` those of these names."""
        generator = torch.Generator(case.device).manual_seed(0)
        input_shapes, output_shape = self.shapes(case)
        both = case.mode == BOTH

        def random(shape: Shape, deviation: float = 1.0) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=case.device, dtype=case.torch_dtype) * deviation

        deviations = (*self.deviations(case), *[1.0] * len(input_shapes))
        inputs = tuple(random(*drawn).requires_grad_(both) for drawn in zip(input_shapes, deviations, strict=False))
        grad = random(output_shape)

        def peer(function: Function, inputs: tuple[torch.Tensor, ...], **what: object) -> Peer:
            if both:
                return differentiable(function, inputs, grad, **what)
            return Peer(lambda: (function(*inputs),), **what)

        def build(name: str) -> Peer:
            if name == COPY:
                return self._copy(case)
            if name == PRODUCTS:
                return products(self.operands(*(x.detach() for x in inputs)), both)
            if name == KERNEL:
                return Peer(self.kernel(*inputs, impl=self._implementations(case)[0]), easier=True)
            if name in self.easier:
                shapes, function = self.easier[name]
                return peer(function, tuple(random(shape).requires_grad_(both) for shape in shapes(case)), easier=True)
            function, compiled = functions[name], name == HUGGING_FACE_COMPILED
            if not (both and self.dropout_p):
                return peer(function, inputs, compiled=compiled)
            compared = peer(partial(function, dropout_p=0.0), inputs).call
            return peer(partial(function, dropout_p=self.dropout_p), inputs, compiled=compiled, compared=compared)

        functions = self._functions(case)
        return {name: build(name) for name in self.names(case) if only is None or name in only}

    def best(self, case: Case) -> str:
        """Name of the peer that users get on this device."""
        return our_name(self._implementations(case)[0])

    def bytes_moved(self, case: Case) -> int:
        """What an ideal op reads and writes: each input once, each output once; backward again, with gradients."""
        input_shapes, output_shape = self.shapes(case)
        read, written = sum(torch.Size(shape).numel() for shape in input_shapes), torch.Size(output_shape).numel()
        numbers = {BACKWARD: 2 * read + written, BOTH: 3 * read + 2 * written}.get(case.mode, read + written)
        return numbers * case.torch_dtype.itemsize

    def operations(self, case: Case) -> int | None:
        """Those of its matrix products; None where it is bound by bytes alone."""
        if self.operands is None:
            return None
        inputs = (torch.empty(shape, device="meta") for shape in self.shapes(case)[0])
        return operations(self.operands(*inputs), case.mode)

    def _copy(self, case: Case) -> Peer:
        modes = (FORWARD, BACKWARD) if case.mode == BOTH else (case.mode,)
        # as many bytes are written as are read
        halves = [self.bytes_moved(replace(case, mode=mode)) // 2 for mode in modes]
        steps = [partial(torch.Tensor.copy_, *_two_buffers(half, case.device)) for half in halves]
        if len(steps) == 1:
            return Peer(*steps, floor=True)
        forward, backward = steps
        return Peer(forward, lambda _: backward(), floor=True)

    def _functions(self, case: Case) -> dict[str, Function]:
        hugging_face, *others = self.others.items()
        functions = dict([hugging_face])
        if case.compiled:
            functions[HUGGING_FACE_COMPILED] = torch.compile(hugging_face[1], dynamic=False)
        return (
            functions
            | dict(others)
            | {our_name(impl): partial(self.ours, impl=impl) for impl in self._implementations(case)}
        )

    def _implementations(self, case: Case) -> list[str]:
        """Best first, which on the CPU is the only one (its others are the same without the compiled code); the
        reference only where nothing else can run. (Triton's interpreter is no implementation.)"""
        best = dispatch.resolve(self.op, case.device, "")
        if case.device == "cpu":
            return [best]
        others = [impl for impl in dispatch.PREFERENCE[case.device] if impl not in (best, "reference")]
        return [best, *(impl for impl in others if dispatch.can_run(self.op, impl, case.device)[0])]


def _two_buffers(size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(size, dtype=torch.uint8, device=device), torch.zeros(size, dtype=torch.uint8, device=device)


def our_name(impl: str) -> str:
    return f"bertkernels ({impl})"
