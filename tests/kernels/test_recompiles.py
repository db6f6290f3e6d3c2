"""No launch of any op makes Triton compile anew for another number of sequences or tokens, padded or packed."""

import os

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)

from bertkernels import ops  # noqa: E402
from tests.kernels.launches import jitted_kernels, observed_launches  # noqa: E402

# (B, T): few and many sequences, of which some have a single token; odd and even numbers, past 2¹⁵ in all.
SIZES = [(2, 24), (1, 2), (3, 1), (1, 17), (7, 131), (32, 512), (70, 500)]


def tensors(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.empty(shape, dtype=torch.bfloat16).requires_grad_() for shape in shapes]


def sequences(form: str, batch: int, tokens: int) -> tuple[tuple[int, ...], dict[str, torch.Tensor]]:
    """Leading dimensions of the tensors, and what says where sequences end."""
    if form == "packed":
        return (batch * tokens,), {"cu_seqlens": torch.arange(0, batch * tokens + 1, tokens, dtype=torch.int32)}
    lengths = torch.full((batch,), tokens, dtype=torch.int32)
    return (batch, tokens), {"lengths": lengths} if form == "lengths" else {}


def light_conv(rows, where, taps=9, **options):
    return ops.light_conv(*tensors((*rows, 2, 48), (*rows, 2, taps)), **where, **options)


def depthwise_conv(rows, where, taps=9, **options):
    return ops.depthwise_conv(*tensors((*rows, 96), (96, taps), (96,)), **where, **options)


def span_conv(rows, where, taps=9):
    a_token = [(*rows, 96), (*rows, 2, 48), (*rows, 2, 48)]
    return ops.span_conv(*tensors(*a_token, (96, 9), (96, 96), (96,), (2 * taps, 96), (2 * taps,)), **where)


def mixed_attention(rows, where, taps=9, **options):
    return ops.mixed_attention(*tensors(*[(*rows, 2, 48)] * 4, (*rows, 2, taps)), **where, **options)


def grouped_linear(rows, where, groups=2, width=64, **options):
    weights = (groups, width, 4 * width), (groups * 4 * width,)
    return ops.grouped_linear(*tensors((*rows, groups * width), *weights), **options)


def bias_activation(rows, where, **options):
    return ops.bias_activation(*tensors((*rows, 96), (96,)), **options)


def glu(rows, where, biased=True):
    left, gate, *biases = tensors((*rows, 96), (*rows, 96), (96,), (96,))
    return ops.glu(left, gate, *(biases if biased else ()))


def residual_norm(rows, where, **options):
    return ops.residual_norm(*tensors((*rows, 96), (*rows, 96), (96,), (96,)), eps=1e-12, **options)


CALLS = [
    *((op, options, form) for form in ("padded", "lengths", "packed") for op, options in (
        (light_conv, {}),
        (light_conv, {"taps": 31}),
        (light_conv, {"softmax": False, "causal": True}),
        (depthwise_conv, {}),
        (depthwise_conv, {"taps": 31, "causal": True}),
        (span_conv, {}),
        (span_conv, {"taps": 13}),
        (mixed_attention, {}),
        (mixed_attention, {"taps": 31, "dropout_p": 0.1}),
    )),
    *((op, options, "padded") for op, options in (
        (grouped_linear, {}),
        (grouped_linear, {"activation": "gelu", "groups": 3, "width": 48}),
        (bias_activation, {}),
        (bias_activation, {"activation": "tanh"}),
        (glu, {}),
        (glu, {"biased": False}),
        (residual_norm, {}),
        (residual_norm, {"dropout_p": 0.1}),
    )),
]  # fmt: skip


def compiled(op, options, form, batch, tokens) -> set:
    rows, where = sequences(form, batch, tokens)
    with observed_launches() as launches:
        out = op(rows, where, **options)
        out.backward(torch.empty_like(out))
    return set(launches)


def name(value) -> str | None:
    if callable(value):
        return value.__name__
    return "-".join(f"{key}={of}" for key, of in value.items()) or "plain" if isinstance(value, dict) else None


@pytest.mark.parametrize("op, options, form", CALLS, ids=name)
def test_other_numbers_of_tokens_compile_nothing(op, options, form):
    first, *others = SIZES
    known = compiled(op, options, form, *first)
    assert known
    for batch, tokens in others:
        assert compiled(op, options, form, batch, tokens) <= known, f"B{batch}·T{tokens} compiles anew"


def test_every_kernel_is_launched_here():
    launched = {launch.kernel for call in CALLS for launch in compiled(*call, *SIZES[0])}
    assert launched == set(jitted_kernels())


def test_other_widths_do_compile():
    """The tests above can fail: a specialization shows what they look for."""
    few, many = (compiled(light_conv, {"taps": taps}, "padded", 2, 24) for taps in (9, 8))
    assert few and many and not few & many
