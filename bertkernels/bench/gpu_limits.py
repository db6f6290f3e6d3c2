"""The limits of a GPU in bf16, each beside what the same GPU does when nothing else is in its way.

Nothing of one machine stands here: bytes and operations follow from the shapes, and the rates that they are compared
with, of a plain copy and of a large matrix product, are measured with them.
"""

from collections.abc import Iterator

from .case import BOTH, FORWARD, Case
from .encoder import BERT, HUGGING_FACE, HUGGING_FACE_COMPILED, PATCHED
from .encoder import OURS as ENCODER
from .limits import OURS, Limit, memory_ratio, over_matrix_rate, time_ratio
from .op_bench import COPY
from .select import DTYPES, MAIN_SIZES, SHAPES, SIZES

_DEVICE = "cuda"


def _case(op: str, size: str, shape: tuple[int, int], mode: str) -> Case:
    return Case(op, size, *shape, mode, DTYPES[_DEVICE], _DEVICE)


def _limits() -> Iterator[Limit]:
    for shape in SHAPES[_DEVICE]:
        for op in ("light_conv", "depthwise_conv"):
            for size in SIZES:
                for mode in (FORWARD, BOTH):
                    what = f"`{op}` {mode}: share of the rate of a copy"
                    yield Limit("Convolutions", what, _case(op, size, shape, mode), 0.8, True, time_ratio(COPY, OURS))
        for size in MAIN_SIZES:
            step = _case("encoder", size, shape, BOTH)
            for ours in (PATCHED, ENCODER):
                for slower, bound in ((HUGGING_FACE, 2), (HUGGING_FACE_COMPILED, 1.3)):
                    what = f"{ours}: times as fast as {slower}"
                    yield Limit("Training step", what, step, bound, True, time_ratio(slower, ours))
        step = _case("encoder", "base", shape, BOTH)
        what = f"{ENCODER}: time ÷ its products at the rate of a large one"
        yield Limit("Training step", what, step, 2, False, over_matrix_rate(ENCODER))
        yield Limit("Training step", f"{ENCODER}: times as fast as {BERT}", step, 1, True, time_ratio(BERT, ENCODER))
        what = f"{ENCODER}: peak memory ÷ {HUGGING_FACE}"
        yield Limit("Memory of a training step", what, step, 0.5, False, memory_ratio(ENCODER, HUGGING_FACE))


LIMITS = tuple(_limits())
