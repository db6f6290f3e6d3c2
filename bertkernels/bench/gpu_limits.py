"""The speeds that must be reached on a GPU in bf16, each beside what the same GPU does when nothing else is in its way.

Nothing of one machine stands here: bytes and operations follow from the shapes, and the rates that they are compared
with, of a plain copy and of a large matrix product, are measured on the spot.
"""

from collections.abc import Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from .case import BOTH, FORWARD, Case
from .encoder import BENCH, HUGGING_FACE, HUGGING_FACE_COMPILED, PATCHED, PRODUCTS
from .encoder import OURS as ENCODER
from .limits import OURS, Bound, Limit, Outcome, check_limits
from .op_bench import COPY
from .select import DTYPES, SHAPES
from .timing import interleaved

DEVICE, DTYPE = "cuda", DTYPES["cuda"]
SIZES = ("small", "medium-small", "base")
SHAPES_TO_MEASURE = SHAPES[DEVICE]
_SQUARE = 8192  # numbers a side of the product that shows the matrix rate
_ROUNDS, _SECONDS = 10, 2.0


def _case(op: str, size: str, shape: tuple[int, int], mode: str, compiled: bool = False) -> Case:
    return Case(op, size, *shape, mode, DTYPE, DEVICE, compiled)


def _limits() -> Iterator[Limit]:
    for shape in SHAPES_TO_MEASURE:
        for op in ("light_conv", "depthwise_conv"):
            for size in SIZES:
                for mode in (FORWARD, BOTH):
                    yield Limit(_case(op, size, shape, mode), COPY, OURS, 0.8, at_least=True)
        for size in ("small", "base"):
            step = _case("encoder", size, shape, BOTH, compiled=True)
            for ours in (PATCHED, ENCODER):
                yield Limit(step, HUGGING_FACE, ours, 2, at_least=True)
                yield Limit(step, HUGGING_FACE_COMPILED, ours, 1.3, at_least=True)


LIMITS = tuple(_limits())


def operations(case: Case) -> int:
    """Floating-point operations of an encoder's own matrix products, a multiplication and an addition each."""
    call = BENCH.peers(case, only=[PRODUCTS])[PRODUCTS].call
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def _over_floor(case: Case) -> float:
    """Time of our step ÷ time that its operations take at the rate of a large product."""
    a, b = (torch.randn(_SQUARE, _SQUARE, device=case.device, dtype=case.torch_dtype) for _ in range(2))
    calls = {"step": BENCH.peers(case, only=[ENCODER])[ENCODER].call, "product": lambda: a @ b}
    times = interleaved(calls, rounds=_ROUNDS, seconds=_SECONDS, device=case.device)
    floor = times["product"].p50 * operations(case) / (2 * _SQUARE**3)
    return times["step"].p50 / floor


def _bert_over_ours(case: Case) -> float:
    """Time of a training step of Hugging Face's BERT with torch's attention, of the same widths, ÷ time of ours."""
    ours = BENCH.peers(case, only=[ENCODER])[ENCODER].call
    config = BertConfig(attn_implementation="sdpa", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertModel(config, add_pooling_layer=False).to(case.device, case.torch_dtype)
    ids = torch.randint(5, config.vocab_size, (case.batch, case.tokens), device=case.device)
    parameters = list(model.parameters())

    def bert() -> tuple[torch.Tensor, ...]:
        out = model(input_ids=ids).last_hidden_state
        return torch.autograd.grad(out, parameters, torch.ones_like(out))

    times = interleaved({"ours": ours, "bert": bert}, rounds=_ROUNDS, seconds=_SECONDS, device=case.device)
    return times["bert"].p50 / times["ours"].p50


def _memory_share(case: Case) -> float:
    """Peak memory of our step as a share of Hugging Face's."""
    calls = {name: peer.call for name, peer in BENCH.peers(case, only=[HUGGING_FACE, ENCODER]).items()}
    times = interleaved(calls, rounds=1, seconds=0, device=case.device)
    return times[ENCODER].peak_bytes / times[HUGGING_FACE].peak_bytes


_BASE_STEPS = tuple(_case("encoder", "base", shape, BOTH) for shape in SHAPES_TO_MEASURE)

BOUNDS = tuple(
    Bound(f"{case.label}: {what}", lambda measured=measured, case=case: measured(case), bound, at_least)
    for case in _BASE_STEPS
    for what, measured, bound, at_least in (
        ("ours ÷ its operations at the rate of a large product", _over_floor, 2, False),
        ("Hugging Face BERT ÷ ours", _bert_over_ours, 1, True),
        ("peak memory ours ÷ Hugging Face", _memory_share, 0.5, False),
    )
)


def check() -> Iterator[Outcome]:
    """Measures all of these, as `check_limits` does."""
    return check_limits(threads=None, limits=LIMITS, bounds=BOUNDS)
