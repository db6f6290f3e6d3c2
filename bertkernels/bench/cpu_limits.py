"""The limits of a CPU in fp32: two threads, published sizes, the shapes that a run measures."""

from collections.abc import Iterator
from functools import partial

from .case import BOTH, FORWARD, GROWTH, MEMORY, Case, dimensions
from .encoder import OURS as ENCODER
from .encoder import PATCHED, PATCHED_FLOAT32, PRODUCTS
from .limits import OURS, Limit, growth_slope, memory_over, memory_ratio, time_ratio
from .op_bench import COPY, HUGGING_FACE, HUGGING_FACE_COMPILED
from .padded_batch import LENGTHS, UNPADDED, padded_case
from .select import GROWN, HALF, MAIN_SIZES, MEMORY_SHAPE, MOST_TOKENS, SHAPES, SIZES

_SHAPES = SHAPES["cpu"]


def _at_least(subject: str, case: Case, bound: float, slower: str, faster: str) -> Limit:
    """How many times as fast one peer is as another."""
    what = f"{_name(case, faster)}: times as fast as {slower}"
    return Limit(subject, what, case, bound, True, time_ratio(slower, faster))


def _at_most(subject: str, case: Case, bound: float, ours: str, floor: str) -> Limit:
    """How many times as long one peer takes as another."""
    return Limit(subject, f"{_name(case, ours)}: time ÷ {floor}", case, bound, False, time_ratio(ours, floor))


def _name(case: Case, peer: str) -> str:
    return f"`{case.op}` {case.mode}" if peer == OURS else peer


def _convolutions() -> Iterator[Limit]:
    at_least, at_most = (partial(limit, "Convolutions") for limit in (_at_least, _at_most))
    for size in SIZES:
        for shape in _SHAPES:
            forward, both = (Case("light_conv", size, *shape, mode) for mode in (FORWARD, BOTH))
            yield at_most(forward, 2.5, OURS, COPY)
            yield at_least(forward, 100, HUGGING_FACE, OURS)
            yield at_least(forward, 40, HUGGING_FACE_COMPILED, OURS)
            yield at_least(both, 40, HUGGING_FACE, OURS)
            yield at_least(Case("depthwise_conv", size, *shape, FORWARD), 4, HUGGING_FACE, OURS)


def _dynamic_convolution() -> Iterator[Limit]:
    """LV-BERT's sub-layer beside plain torch with Hugging Face's unfold."""
    for size in MAIN_SIZES:
        yield _at_least("Dynamic convolution", Case("dynamic_conv", size, *_SHAPES[0], BOTH), 3, HUGGING_FACE, OURS)


def _inference() -> Iterator[Limit]:
    at_least, at_most = (partial(limit, "Inference") for limit in (_at_least, _at_most))
    for size in SIZES:
        for shape in _SHAPES:
            case = Case("encoder", size, *shape, FORWARD)
            for ours in (PATCHED, ENCODER):
                yield at_most(case, 1.08 if size == "base" else 1.15, ours, PRODUCTS)
            yield at_least(case, 1, HUGGING_FACE_COMPILED, PATCHED)
    for size in SIZES:
        yield _at_least(
            "Inference in bf16", Case("encoder", size, *_SHAPES[0], FORWARD, HALF), 1.5, PATCHED_FLOAT32, PATCHED
        )


def _training() -> Iterator[Limit]:
    at_least, at_most = (partial(limit, "Training step") for limit in (_at_least, _at_most))
    for size, bound in (("small", 1.3), ("base", 1.15)):
        case = Case("encoder", size, *_SHAPES[0], BOTH)
        yield at_most(case, bound, PATCHED, PRODUCTS)
        yield at_most(case, bound, ENCODER, PRODUCTS)
    yield at_least(Case("encoder", "small", *_SHAPES[0], BOTH), 1.6, HUGGING_FACE, PATCHED)
    case = Case("encoder", "base", *MEMORY_SHAPE, BOTH, record=MEMORY)
    what = f"{PATCHED}: peak memory ÷ {HUGGING_FACE}"
    yield Limit("Memory of a training step", what, case, 0.6, False, memory_ratio(PATCHED, HUGGING_FACE))


def _real_lengths() -> Iterator[Limit]:
    at_least = partial(_at_least, "Batches of real lengths")
    for size, bound in (("small", 2.4), ("base", 1.9)):
        for text in LENGTHS:
            case = padded_case(text, size, FORWARD)
            yield at_least(case, bound, HUGGING_FACE, UNPADDED)
            yield at_least(case, 1.5, HUGGING_FACE_COMPILED, UNPADDED)


def _growth() -> Iterator[Limit]:
    limit, size = partial(Limit, "Growth with the number of tokens", at_least=False), dimensions("base")
    for op in GROWN:
        case = Case(op, "base", 1, MOST_TOKENS, FORWARD, record=GROWTH)
        yield limit(f"`{op}`: log-log slope of time", case, 1.05, figure=growth_slope(OURS))
        width = size.channels if op == "depthwise_conv" else size.heads * size.head_width
        unfolded = size.taps * MOST_TOKENS * width
        yield limit(f"`{op}`: peak memory ÷ that of K·T·C numbers", case, 1, figure=memory_over(OURS, unfolded))


LIMITS = (*_convolutions(), *_dynamic_convolution(), *_inference(), *_training(), *_real_lengths(), *_growth())
