"""glu on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.glu import glu_backward_op, glu_backward_reference, glu_op, glu_reference
from tests.ops.bits import assert_same_bits, assert_threads_do_not_matter
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

TARGETS = targets("glu")
COMPILED = compiled_targets("glu")
SHAPES = [(2, 35, 64), (3, 600), (7, 1), (5,), (70, 130)]
NAMES = "out", "d_left", "d_gate", "d_left_bias", "d_gate_bias"


def draw(shape, dtype, device="cpu", seed=0):
    """left, gate (also far from zero), both biases and an output gradient."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [shape, shape, shape[-1:], shape[-1:], shape]
    left, gate, *others = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
    return [tensor.to(dtype).to(device) for tensor in (left, 3 * gate, *others)]


def run(left, gate, left_bias, gate_bias, grad, impl):
    return with_gradients(lambda *a: ops.glu(*a, impl=impl), (left, gate, left_bias, gate_bias), grad)


def exact(left, gate, left_bias, gate_bias, grad):
    """Output and gradients in fp64 by autograd of the reference."""
    return with_gradients(glu_reference, (left, gate, left_bias, gate_bias), grad, torch.float64)


def eager(left, gate, left_bias, gate_bias, grad):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""

    def function(left, gate, left_bias, gate_bias):
        left = left if left_bias is None else left + left_bias
        return left * torch.sigmoid(gate if gate_bias is None else gate + gate_bias)

    return with_gradients(function, (left, gate, left_bias, gate_bias), grad)


def terms(left, gate, left_bias, gate_bias, grad):
    """What rounding is measured by: the largest terms of each result's sums, as if nothing cancelled."""
    wide = [None if tensor is None else tensor.double() for tensor in (left, gate, left_bias, gate_bias)]
    left, gate = (x.abs() if bias is None else x.abs() + bias.abs() for x, bias in zip(wide[:2], wide[2:], strict=True))
    halves = [grad.double().abs(), grad.double().abs() * left * (1 + gate)]
    sums = [half.reshape(-1, half.shape[-1]).sum(0) for half in halves]
    wanted = [half for half, bias in zip(sums, wide[2:], strict=True) if bias is not None]
    return left * (1 + gate), *halves, *wanted


def check(tensors, impl, what):
    got, want, same_dtype = run(*tensors, impl), exact(*tensors), eager(*tensors)
    names = [
        name
        for name, there in zip(NAMES, (True, True, True, *(b is not None for b in tensors[2:4])), strict=True)
        if there
    ]
    assert len(names) == len(got)
    if tensors[0].dtype == torch.float64:
        assert_within_budget(names, got, want, same_dtype, what, roundings=3, of=terms(*tensors))
    else:
        assert_within_budget(names, got, want, same_dtype, what)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_against_fp64(device, impl, dtype):
    for shape in SHAPES:
        left, gate, left_bias, gate_bias, grad = draw(shape, dtype, device)
        for biases in itertools.product((left_bias, None), (gate_bias, None)):
            check((left, gate, *biases, grad), impl, f"{shape}")


@pytest.mark.parametrize("device, impl", COMPILED)
def test_accuracy_over_a_dense_grid(device, impl):
    """fp32 to a few units in the last place, also of what is small: σ and 1 - σ do not cancel."""
    gate = torch.cat([torch.linspace(-80, 80, 300_001), torch.logspace(-37, 1.9, 20_001)]).to(device)
    left, ones = torch.full_like(gate, 1.5), torch.ones_like(gate)
    out = ops.glu(left, gate, impl=impl)
    d_left, d_gate, _, _ = glu_backward_op(ones, out, gate, None, [True, True, False, False], impl)
    share, rest = torch.sigmoid(gate.double()), torch.sigmoid(-gate.double())
    for got, want in ((out, 1.5 * share), (d_left, share), (d_gate, 1.5 * share * rest)):
        assert ((got - want) / want).abs().max() < 1e-6


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_not_a_number_and_infinity(device, impl, dtype):
    inf, nan = float("inf"), float("nan")
    left = torch.tensor([nan, 1.0, 2.0, 2.0, inf, 3.0], dtype=dtype, device=device)
    gate = torch.tensor([0.0, nan, inf, -inf, 0.0, -3e4], dtype=dtype, device=device)
    out = ops.glu(left, gate, impl=impl)
    assert out[:2].isnan().all() and out[2:].tolist() == [2.0, 0.0, inf, 0.0]
    d_left, d_gate, _, _ = glu_backward_op(torch.ones_like(out), out, gate, None, [True, True, False, False], impl)
    assert d_left[2:4].tolist() == [1.0, 0.0] and d_gate[2:4].tolist() == [0.0, 0.0]


def test_backward_reference_is_the_gradient_of_the_reference():
    left, gate, left_bias, gate_bias, grad = draw((3, 5, 6), torch.float64)
    got = glu_backward_reference(grad, glu_reference(left, gate, left_bias, gate_bias), gate, gate_bias)
    for g, w in zip(got, exact(left, gate, left_bias, gate_bias, grad)[1:], strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_gradcheck(device, impl):
    inputs = leaves(*draw((2, 3, 5), torch.float64, device)[:4])
    assert torch.autograd.gradcheck(lambda *a: ops.glu(*a, impl=impl), inputs)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    left, gate, left_bias, gate_bias, _ = draw((3, 4, 6), torch.float32, device)
    for inputs in [(left, gate, left_bias, gate_bias), (sliced(left), swapped(gate), None, gate_bias)]:
        torch.library.opcheck(glu_op.overload, (*leaves(*inputs), impl))
        out = glu_op(*inputs, impl)
        for wanted in ([True] * 4, [False, True, False, True]):
            arguments = (expanded_ones(left), out, inputs[1], gate_bias, wanted, impl)
            torch.library.opcheck(glu_backward_op.overload, arguments)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strided_inputs_and_gradients(device, impl, dtype):
    left, gate, left_bias, gate_bias, grad = draw((4, 6, 70), dtype, device)
    biases = left_bias, gate_bias
    want = run(left, gate, *biases, grad, impl)
    for rearrange in (sliced, misaligned, swapped):
        for gradient in (grad, transposed(grad), swapped(grad)):
            assert_same_bits(run(rearrange(left), gate, *biases, gradient, impl), want)
            assert_same_bits(run(left, rearrange(gate), *map(misaligned, biases), gradient, impl), want)
    halves = torch.cat([left, gate], -1)
    assert_same_bits(run(halves[..., :70], halves[..., 70:], *biases, grad, impl), want)
    row = left_bias.expand(left.shape)
    for tensor, gradient in ((left, expanded_ones(left)), (row, row)):
        got = run(tensor, tensor, *biases, gradient, impl)
        assert_same_bits(got, run(tensor.contiguous(), tensor.contiguous(), *biases, gradient.contiguous(), impl))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_only_wanted_gradients(device, impl):
    *inputs, grad = draw((9, 20), torch.float32, device)
    out, *want = run(*inputs, grad, impl)
    for wanted in itertools.product([False, True], repeat=4):
        got = glu_backward_op(grad, out, inputs[1], inputs[3], list(wanted), impl)
        for gradient, expected, is_wanted in zip(got, want, wanted, strict=True):
            assert torch.equal(gradient, expected) if is_wanted else not gradient.numel()


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written(device, impl):
    tensors = draw((37, 130), torch.float32, device)
    want = run(*tensors, impl)
    with poisoned_memory():
        got = run(*tensors, impl)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_bitwise_reproducible(device, impl):
    tensors = draw((300, 1100), torch.float32, device)
    assert_threads_do_not_matter(lambda: run(*tensors, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,)])
def test_empty(device, impl, shape):
    out, d_left, d_gate, *d_biases = run(*draw(shape, torch.float32, device), impl)
    assert out.shape == d_left.shape == d_gate.shape == shape
    assert all(d_bias.shape == shape[-1:] and not d_bias.any() for d_bias in d_biases)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    left, gate, left_bias, gate_bias, grad = draw((4, 9), torch.float32, device)
    inputs = left.bfloat16(), gate, left_bias, gate_bias
    assert_casts_under_autocast(lambda *a: ops.glu(*a, impl=impl), inputs, grad)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    cases = [draw((B, T, 8), torch.float32, device)[:4] for B, T in [(4, 9), (3, 17), (7, 5)]]
    assert_compiles_whole_without_recompiling(lambda *a: ops.glu(*a, impl=impl), cases)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(60):
        shape = (rng.randint(1, 90), rng.randint(1, 700))
        dtype = rng.choice(DTYPES)
        left, gate, left_bias, gate_bias, grad = draw(shape, dtype, device, seed=rng.randrange(2**31))
        biases = rng.choice([left_bias, None]), rng.choice([gate_bias, None])
        check((left, gate, *biases, grad), impl, f"seed {seed}: {shape} {dtype}")


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):\n"
        "  inputs = [(3 * torch.randn(*s)).to(dtype).requires_grad_() for s in ((37, 77), (37, 77), (77,), (77,))]\n"
        "  out = [ops.glu(*inputs, impl=i) for i in ('cpu', 'reference')]\n"
        "  grads = [torch.autograd.grad(o, inputs, torch.ones_like(o)) for o in out]\n"
        "  for a, b in zip((out[0], *grads[0]), (out[1], *grads[1])):\n"
        "    torch.testing.assert_close(a, b, **(dict(rtol=2e-6, atol=5e-6) if dtype == torch.float32 else {}))\n"
    )
    run_with_instruction_set("glu", isa, code)


def _bad_calls():
    x, bias = torch.zeros(2, 5, 4), torch.zeros(4)
    yield "not a tensor", (x.tolist(), x), "left must be a tensor"
    yield "no dimension", (x[0, 0, 0], x), "left must be"
    yield "integers", (x.long(), x), "left must be float"
    yield "left strides", (x.mT.contiguous().mT, x), "last dimension of left must be contiguous"
    yield "gate strides", (x, x.mT.contiguous().mT), "last dimension of gate must be contiguous"
    yield "gate rank", (x, x[0]), "gate must be"
    yield "gate shape", (x, x[:, :3]), r"gate must be \[…, C\] = \[2, 5, 4\]"
    yield "gate dtype", (x, x.double()), "gate is torch.float64"
    yield "left_bias size", (x, x, bias[:3]), r"left_bias must be"
    yield "gate_bias rank", (x, x, None, bias[None]), r"gate_bias must be"
    yield "gate_bias dtype", (x, x, None, bias.double()), "gate_bias is torch.float64"
    yield "left_bias device", (x, x, bias.to("meta")), "left_bias is on meta"


@pytest.mark.parametrize("impl", implementations_on_cpu("glu"))
@pytest.mark.parametrize("arguments, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.glu(*arguments, impl=impl)
