"""Where the time of a call of an encoder goes, by kind of work."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from .matrix_products import ATTENTION, FEED_FORWARD, MIXED, Operands, products

ATTENTION_BLOCK, MIXED_BLOCK, FEED_FORWARD_BLOCK = (f"{part} in one op" for part in (ATTENTION, MIXED, FEED_FORWARD))
PRODUCTS, MIXERS, EPILOGUES = "matrix products", "attention, convolution", "norms, activations"
TRAINED_FEED_FORWARD = "feed-forward sub-layers with gradients, less the weights'"
OTHERS, OUTSIDE = "other operators", "outside of operators"
KINDS = (
    *(ATTENTION_BLOCK, MIXED_BLOCK, FEED_FORWARD_BLOCK, TRAINED_FEED_FORWARD),
    *(PRODUCTS, MIXERS, EPILOGUES, OTHERS, OUTSIDE),
)

# How the names of operators begin, the first that fits; time counts for an operator less what others take within it.
_KINDS = {
    "bertkernels::attention_block": ATTENTION_BLOCK,  # before attention, whose name its own begins with
    "bertkernels::mixed_block": MIXED_BLOCK,
    **dict.fromkeys(("bertkernels::feed_forward_block", "bertkernels::expression_block"), FEED_FORWARD_BLOCK),
    "bertkernels::feed_forward_training": TRAINED_FEED_FORWARD,  # products of the weights' gradients are within it
    **dict.fromkeys(("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"), PRODUCTS),
    **dict.fromkeys(("mkldnn::_linear_pointwise", "bertkernels::grouped_linear"), PRODUCTS),
    **dict.fromkeys(("bertkernels::mixed_attention", "bertkernels::attention", "bertkernels::span_conv"), MIXERS),
    **dict.fromkeys(("bertkernels::light_conv", "bertkernels::depthwise_conv"), MIXERS),
    "bertkernels::mixed_context": MIXERS,  # its products are operators within it
    **dict.fromkeys(("aten::_flash_", "aten::_scaled_dot_product"), MIXERS),
    **dict.fromkeys(("bertkernels::residual_norm", "bertkernels::bias_activation"), EPILOGUES),
    "bertkernels::linear": EPILOGUES,  # its product is an operator within it
    **dict.fromkeys(("aten::native_layer_norm", "aten::gelu"), EPILOGUES),
    **dict.fromkeys(("bertkernels::", "aten::", "mkldnn::"), OTHERS),
}
_CALLS = 2


@dataclass(frozen=True)
class Profile:
    """Microseconds of one call of `peer`.

    Attributes:
        call: all of it.
        kinds: by kind of work, those of `KINDS` that there are; together they are `call`. What is outside of operators
            is Python, autograd's bookkeeping and, on a GPU, waiting for launches.
        products: beside the call, time of the matrix products alone of each part of the encoder that is one op.
    """

    peer: str
    call: float
    kinds: dict[str, float]
    products: dict[str, float]


def profile_call(
    peer: str, call: Callable[[], object], operands: Iterable[tuple[str, Operands]], device: str
) -> Profile:
    """Profiles a call, the faster of two (it must have been called before), and times the products of what is one op.

    Args:
        operands: of the encoder's products in its forward pass, each with its part.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler says on standard error that it starts
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    profiled = []
    for _ in range(_CALLS):
        with profile(activities=activities) as profiler:
            profiled.append((_seconds(call, device), profiler))
    seconds, profiler = min(profiled, key=lambda item: item[0])  # the one that the machine disturbed least
    own_time = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    kinds: dict[str, float] = {}
    for event in profiler.key_averages():
        kind = _kind(event.key)
        if kind is not None and event.device_type == DeviceType.CPU:  # on a GPU too: an operator with its kernels' time
            kinds[kind] = kinds.get(kind, 0.0) + getattr(event, own_time)
    kinds[OUTSIDE] = max(0.0, seconds * 1e6 - sum(kinds.values()))
    parts: dict[str, list[Operands]] = {}
    for part, pair in operands:
        if f"{part} in one op" in kinds:
            parts.setdefault(part, []).append(pair)
    alone = {part: _products_time(pairs, device) for part, pairs in parts.items()}
    return Profile(peer, seconds * 1e6, {kind: kinds[kind] for kind in KINDS if kinds.get(kind)}, alone)


def _kind(operator: str) -> str | None:
    return next((kind for name, kind in _KINDS.items() if operator.startswith(name)), None)


def _products_time(pairs: list[Operands], device: str) -> float:
    call = products(pairs, both=False).call
    return min(_seconds(call, device) for _ in range(_CALLS)) * 1e6


def _seconds(call: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
