"""bias_activation on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import math
import os
import random
import subprocess
import sys

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import (
    ACTIVATIONS,
    bias_activation_backward_op,
    bias_activation_backward_reference,
    bias_activation_op,
    bias_activation_reference,
)

TARGETS = [
    pytest.param("cpu", "reference", id="reference"),
    pytest.param("cpu", "cpu", id="cpu"),
    pytest.param("cuda", "reference", id="reference-gpu", marks=pytest.mark.gpu),
    pytest.param("cuda", "cuda", id="cuda", marks=pytest.mark.gpu),
    pytest.param("cuda", "triton", id="triton", marks=pytest.mark.gpu),
]
COMPILED = [target for target in TARGETS if "reference" not in target.id]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(2, 35, 64), (3, 600), (7, 1), (5,), (70, 130)]


@pytest.fixture(autouse=True)
def _needs(request):
    parameters = getattr(request.node, "callspec", None)
    if parameters is None or "device" not in parameters.params:
        return
    device, impl = parameters.params["device"], parameters.params["impl"]
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    possible, reason = ops.can_run("bias_activation", impl, device)
    if not possible:
        pytest.skip(reason)


def draw(shape, dtype, device="cpu", seed=0):
    """x (also far from zero), bias and an output gradient."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [shape, shape[-1:], shape]
    x, bias, grad = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
    return [tensor.to(dtype).to(device) for tensor in (3 * x, bias, grad)]


def run(x, bias, grad, activation, impl):
    inputs = [tensor.detach().requires_grad_() for tensor in (x, bias) if tensor is not None]
    out = ops.bias_activation(*inputs, activation=activation, impl=impl)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def exact(x, bias, grad, activation):
    """Output and gradients in fp64 by autograd of the reference."""
    inputs = [tensor.double().requires_grad_() for tensor in (x, bias) if tensor is not None]
    out = bias_activation_reference(*inputs[:1], inputs[1] if bias is not None else None, activation)
    return out.detach(), *torch.autograd.grad(out, inputs, grad.double())


def eager(x, bias, grad, activation):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""
    inputs = [tensor.detach().requires_grad_() for tensor in (x, bias) if tensor is not None]
    out = inputs[0] if bias is None else inputs[0] + inputs[1]
    out = torch.nn.functional.gelu(out) if activation == "gelu" else ACTIVATIONS[activation][0](out)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_within_budget(got, want, same_dtype, what):
    """At most twice the error of eager torch in the same dtype (plus a few roundings of the largest entry).

    More roundings in fp64: there `want` itself has them, where terms of a derivative cancel.
    """
    for name, g, w, e in zip(("out", "d_x", "d_bias"), got, want, same_dtype, strict=False):
        assert g.shape == w.shape
        floor = (64 if g.dtype == torch.float64 else 4) * torch.finfo(g.dtype).eps * w.abs().max()
        budget = 2 * (e.double() - w).abs().max() + floor
        error = (g.double() - w).abs().max()
        assert error <= budget, f"{what}: {name} is off by {error:.3g}, budget {budget:.3g}"


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_fp64(device, impl, dtype, activation):
    for shape in SHAPES:
        x, bias, grad = draw(shape, dtype, device)
        for b in (bias, None):
            got = run(x, b, grad, activation, impl)
            assert_within_budget(got, exact(x, b, grad, activation), eager(x, b, grad, activation), f"{shape}")


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_accuracy_over_a_dense_grid(device, impl, activation):
    """fp32 to a few units in the last place of the larger of the value and one, over the whole range."""
    x = torch.cat([torch.linspace(-30, 30, 300_001), torch.logspace(-37, 2, 20_001)]).to(device)
    out = ops.bias_activation(x, None, activation, impl=impl)
    d_x, _ = bias_activation_backward_op(torch.ones_like(x), x, None, activation, [True, False], impl)
    function, derivative = ACTIVATIONS[activation]
    for got, want in ((out, function(x.double())), (d_x, derivative(x.double()))):
        assert ((got - want).abs() / want.abs().clamp(min=1)).max() < 3e-7


@pytest.mark.parametrize("device, impl", COMPILED)
def test_gelu_keeps_its_digits_in_the_left_tail(device, impl):
    """Where 1 + erf has cancelled to nothing, x·Φ(x) has not."""
    x = torch.linspace(-12, 0, 10_001, device=device)[:-1]
    want = 0.5 * x.double() * torch.special.erfc(-x.double() / math.sqrt(2))
    got = ops.bias_activation(x, None, "gelu", impl=impl)
    assert ((got - want) / want).abs().max() < 1e-5


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_not_a_number_and_infinity(device, impl, dtype, activation):
    x = torch.tensor([float("nan"), float("inf"), 3.0, -100.0], dtype=dtype, device=device)
    got = ops.bias_activation(x, None, activation, impl=impl)
    assert got[0].isnan() and not got[2:].isnan().any()
    assert got[1] == (1 if activation in ("tanh", "sigmoid") else float("inf"))
    d_x, _ = bias_activation_backward_op(torch.ones_like(x), x, None, activation, [True, False], impl)
    assert not d_x[2:].isnan().any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_reference_is_the_gradient_of_the_reference(activation):
    x, bias, grad = draw((3, 5, 6), torch.float64)
    got = bias_activation_backward_reference(grad, x, bias, activation)
    for g, w in zip(got, exact(x, bias, grad, activation)[1:], strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradcheck(device, impl, activation):
    x, bias, _ = draw((2, 3, 5), torch.float64, device)
    inputs = x.requires_grad_(), bias.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, b: ops.bias_activation(x, b, activation, impl=impl), inputs)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    x, bias, _ = draw((3, 4, 6), torch.float32, device)
    sliced = torch.randn(3, 4, 9, device=device)[..., 2:8]
    for tensor, b, activation in [(x, bias, "gelu"), (sliced, None, None)]:
        inputs = [t if t is None or t is sliced else t.clone().requires_grad_() for t in (tensor, b)]
        torch.library.opcheck(bias_activation_op, (*inputs, activation, impl))
        expanded = torch.ones((), device=device).expand(tensor.shape)
        for wanted in ([True, b is not None], [False, True]):
            torch.library.opcheck(bias_activation_backward_op, (expanded, tensor, b, activation, wanted, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_strided_inputs_and_gradients(device, impl, dtype, activation):
    x, bias, grad = draw((4, 6, 70), dtype, device)
    want = run(x, bias, grad, activation, impl)
    wide = torch.full((4, 6, 80), float("nan"), dtype=dtype, device=device)
    wide[..., 3:73] = x
    misaligned = torch.empty(x.numel() + 1, dtype=dtype, device=device)[1:].view(x.shape).copy_(x)
    swapped = x.transpose(0, 1).contiguous().transpose(0, 1)
    for version in (wide[..., 3:73], misaligned, swapped):
        for gradient in (grad, grad.mT.contiguous().mT, grad.transpose(0, 1).contiguous().transpose(0, 1)):
            for g, w in zip(run(version, bias, gradient, activation, impl), want, strict=True):
                assert torch.equal(g, w)
    ones = torch.ones((), dtype=dtype, device=device).expand(x.shape)
    row = bias.expand(x.shape)
    for tensor, gradient in ((x, ones), (row, row)):
        got = run(tensor, bias, gradient, activation, impl)
        for g, w in zip(got, run(tensor.contiguous(), bias, gradient.contiguous(), activation, impl), strict=True):
            assert torch.equal(g, w)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written(device, impl, monkeypatch):
    """Outputs are allocated empty: with NaN in the fresh memory, nothing of it may be left."""
    plain = torch.Tensor.new_empty
    tensors = draw((37, 130), torch.float32, device)
    want = run(*tensors, "gelu", impl)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *a, **k: plain(self, *a, **k).fill_(float("nan")))
    for g, w in zip(run(*tensors, "gelu", impl), want, strict=True):
        assert torch.equal(g, w)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_bitwise_reproducible(device, impl, activation):
    tensors = draw((300, 1100), torch.float32, device)
    want = run(*tensors, activation, impl)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for g, w in zip(run(*tensors, activation, impl), want, strict=True):
                assert torch.equal(g, w)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,)])
def test_empty(device, impl, shape):
    x, bias, grad = draw(shape, torch.float32, device)
    out, d_x, d_bias = run(x, bias, grad, "gelu", impl)
    assert out.shape == d_x.shape == x.shape
    assert d_bias.shape == bias.shape and not d_bias.any()


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    x, bias, grad = draw((4, 9), torch.float32, device)
    bias.requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        out = ops.bias_activation(x.bfloat16(), bias, "gelu", impl=impl)
    assert torch.equal(out, ops.bias_activation(x.bfloat16(), bias.bfloat16(), "gelu", impl=impl))
    out.backward(grad.bfloat16())
    assert bias.grad.dtype == torch.float32


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    def loss(x, bias):
        return ops.bias_activation(x, bias, "gelu", impl=impl).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, (B, T) in enumerate([(4, 9), (3, 17), (7, 5)]):
        tensors = draw((B, T, 8), torch.float32, device)[:2]
        gradients = []
        for function in (loss, compiled):
            inputs = [t.clone().requires_grad_() for t in tensors]
            with torch.compiler.set_stance("fail_on_recompile" if i and function is compiled else "default"):
                function(*inputs).backward()
            gradients.append([t.grad for t in inputs])
        for got, want in zip(*gradients, strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(60):
        shape = (rng.randint(1, 90), rng.randint(1, 700))
        dtype, activation = rng.choice(DTYPES), rng.choice(list(ACTIVATIONS))
        x, bias, grad = draw(shape, dtype, device, seed=rng.randrange(2**31))
        tensors = x, rng.choice([bias, None]), grad, activation
        what = f"seed {seed}: {shape} {dtype} {activation}"
        assert_within_budget(run(*tensors, impl), exact(*tensors), eager(*tensors), what)


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_lower_instruction_sets(isa):
    """The other builds of the C++ code, each in a process of its own (the choice is made once)."""
    possible, reason = ops.can_run("bias_activation", "cpu", "cpu")
    if not possible:
        pytest.skip(reason)
    code = (
        "import torch; from bertkernels import ops; from bertkernels.ops.extension import C\n"
        "from bertkernels.ops.bias_activation import ACTIVATIONS\n"
        f"assert C.active_isa() in ({isa!r}, 'baseline'), C.active_isa()\n"
        "for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):\n"
        "  for activation in ACTIVATIONS:\n"
        "    inputs = [(3 * torch.randn(*s)).to(dtype).requires_grad_() for s in ((37, 77), (77,))]\n"
        "    inputs[0].data[0] *= 1e-6\n"
        "    out = [ops.bias_activation(*inputs, activation, impl=i) for i in ('cpu', 'reference')]\n"
        "    grads = [torch.autograd.grad(o, inputs, torch.ones_like(o)) for o in out]\n"
        "    for a, b in zip((out[0], *grads[0]), (out[1], *grads[1])):\n"
        "      torch.testing.assert_close(a, b, **(dict(rtol=2e-6, atol=2e-6) if dtype == torch.float32 else {}))\n"
    )
    environment = {**os.environ, "BERTKERNELS_ISA": isa, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def _bad_calls():
    x, bias = torch.zeros(2, 5, 4), torch.zeros(4)
    yield "not a tensor", (x.tolist(), bias), "x must be a tensor"
    yield "no dimension", (x[0, 0, 0],), "x must be"
    yield "integers", (x.long(),), "x must be float"
    yield "x strides", (x.mT.contiguous().mT,), "last dimension of x must be contiguous"
    yield "bias rank", (x, bias[None]), r"bias must be \[4\]"
    yield "bias size", (x, bias[:3]), "bias must be one value an output channel"
    yield "bias dtype", (x, bias.double()), "bias is torch.float64"
    yield "bias device", (x, bias.to("meta")), "bias is on meta"
    yield "activation", (x, bias, "swish"), "activation must be one of None, 'gelu'.* got 'swish'"


@pytest.mark.parametrize("impl", ["cpu", "reference"])
@pytest.mark.parametrize("arguments, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, message):
    possible, reason = ops.can_run("bias_activation", impl, "cpu")
    if not possible:
        pytest.skip(reason)
    with pytest.raises((ValueError, TypeError), match=message):
        ops.bias_activation(*arguments, impl=impl)
