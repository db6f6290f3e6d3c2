"""grouped_linear on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools
import random

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import ACTIVATIONS
from bertkernels.ops.grouped_linear import (
    grouped_linear_backward_op,
    grouped_linear_backward_reference,
    grouped_linear_op,
    grouped_linear_reference,
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
# leading dimensions, G, I, O
SHAPES = [((2, 17), 2, 24, 40), ((33,), 3, 5, 7), ((2, 3, 4), 1, 16, 30), ((1,), 2, 1, 1), ((), 4, 3, 2)]


@pytest.fixture(autouse=True)
def _needs(request):
    parameters = getattr(request.node, "callspec", None)
    if parameters is None or "device" not in parameters.params:
        return
    device, impl = parameters.params["device"], parameters.params["impl"]
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    possible, reason = ops.can_run("grouped_linear", impl, device)
    if not possible:
        pytest.skip(reason)


def draw(shape, dtype, device="cpu", seed=0):
    """x, weight, bias and an output gradient."""
    lead, G, I, O = shape  # noqa: E741 (the letters of the formula)
    generator = torch.Generator().manual_seed(seed)
    sizes = [(*lead, G * I), (G, I, O), (G * O,), (*lead, G * O)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(device) for size in sizes]


def run(x, weight, bias, grad, activation, impl):
    inputs = [tensor.detach().requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
    out = ops.grouped_linear(*inputs, activation=activation, impl=impl)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def exact(x, weight, bias, grad, activation):
    """Output and gradients in fp64 by autograd of the reference."""
    inputs = [tensor.double().requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
    out = grouped_linear_reference(*inputs[:2], inputs[2] if bias is not None else None, activation)
    return out.detach(), *torch.autograd.grad(out, inputs, grad.double())


def eager(x, weight, bias, grad, activation):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""
    inputs = [tensor.detach().requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
    groups = inputs[0].unflatten(-1, weight.shape[:2])[..., None, :]  # […, G, 1, I]
    out = torch.matmul(groups, inputs[1]).flatten(-3)
    out = out if bias is None else out + inputs[2]
    out = torch.nn.functional.gelu(out) if activation == "gelu" else ACTIVATIONS[activation][0](out)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_within_budget(got, want, same_dtype, what):
    """At most twice the error of eager torch in the same dtype (plus a few roundings of the largest entry).

    More roundings in fp64: there `want` itself has them, where terms of a derivative cancel.
    """
    for name, g, w, e in zip(("out", "d_x", "d_weight", "d_bias"), got, want, same_dtype, strict=False):
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
        x, weight, bias, grad = draw(shape, dtype, device)
        for b in (bias, None):
            tensors = x, weight, b, grad, activation
            assert_within_budget(run(*tensors, impl), exact(*tensors), eager(*tensors), f"{shape}")


@pytest.mark.parametrize("device, impl", TARGETS)
def test_equals_a_block_diagonal_linear_layer(device, impl):
    x, weight, bias, _ = draw(((2, 5), 3, 4, 6), torch.float64, device)
    dense = torch.nn.functional.linear(x, torch.block_diag(*weight).T, bias)
    got = ops.grouped_linear(x, weight, bias, activation="gelu", impl=impl)
    torch.testing.assert_close(got, torch.nn.functional.gelu(dense))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_an_ordinary_linear_layer_is_one_group(device, impl):
    """A weight as torch keeps it, [O, I], is taken transposed, and its gradient comes in its own layout."""
    layer = torch.nn.Linear(12, 20, device=device)
    x = torch.randn(3, 7, 12, device=device)
    weight = layer.weight.T[None]
    got = ops.grouped_linear(x, weight, layer.bias, activation="gelu", impl=impl)
    want = torch.nn.functional.gelu(layer(x))
    torch.testing.assert_close(got, want)
    grads = [torch.autograd.grad(out.square().sum(), (layer.weight, layer.bias)) for out in (got, want)]
    for g, w in zip(*grads, strict=True):
        torch.testing.assert_close(g, w)
        assert g.stride() == w.stride()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_reference_is_the_gradient_of_the_reference(activation):
    x, weight, bias, grad = draw(((3, 4), 2, 5, 6), torch.float64)
    got = grouped_linear_backward_reference(grad, x, weight, bias, activation)
    for g, w in zip(got, exact(x, weight, bias, grad, activation)[1:], strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradcheck(device, impl, activation):
    x, weight, bias, _ = draw(((2, 3), 2, 3, 4), torch.float64, device)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(lambda *a: ops.grouped_linear(*a, activation=activation, impl=impl), inputs)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    x, weight, bias, grad = draw(((2, 5), 2, 3, 4), torch.float32, device)
    sliced = torch.randn(2, 5, 9, device=device)[..., 2:8]
    for tensor, b, activation, keep in [(x, bias, "gelu", True), (x, None, "gelu", False), (sliced, bias, None, True)]:
        inputs = [t if t is None or t is sliced else t.clone().requires_grad_() for t in (tensor, weight, b)]
        torch.library.opcheck(grouped_linear_op, (*inputs, activation, keep, impl))
        _, product = grouped_linear_op(tensor, weight, b, activation, keep, impl)
        expanded = torch.ones((), device=device).expand(grad.shape)
        arguments = (expanded, tensor, weight, b, product, activation)
        torch.library.opcheck(grouped_linear_backward_op, (*arguments, [True, keep, b is not None], impl))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_the_product_is_kept_only_for_gradients(device, impl, activation):
    x, weight, bias, grad = draw(((2, 5), 2, 3, 4), torch.float32, device)
    want = run(x, weight, bias, grad, activation, impl)
    inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
    for keep in (True, False):  # the backward pass makes the product anew where it was not kept
        out, product = grouped_linear_op(*inputs, activation, keep, impl)
        assert product.numel() == (out.numel() if keep and activation else 0) and not product.requires_grad
        for g, w in zip((out, *torch.autograd.grad(out, inputs, grad)), want, strict=True):
            torch.testing.assert_close(g, w)
    with torch.no_grad():
        torch.testing.assert_close(ops.grouped_linear(*inputs, activation=activation, impl=impl), want[0])


@pytest.mark.parametrize("device, impl", TARGETS)
def test_only_wanted_gradients(device, impl):
    x, weight, bias, grad = draw(((2, 5), 2, 3, 4), torch.float32, device)
    for activation in (None, "gelu"):
        _, *want = run(x, weight, bias, grad, activation, impl)
        for wanted in itertools.product([False, True], repeat=3):
            inputs = [t.clone().requires_grad_(w) for t, w in zip((x, weight, bias), wanted, strict=True)]
            out = ops.grouped_linear(*inputs, activation=activation, impl=impl)
            assert out.requires_grad == any(wanted)
            if any(wanted):
                out.backward(grad)
            for tensor, w, gradient in zip(inputs, wanted, want, strict=True):
                assert torch.equal(tensor.grad, gradient) if w else tensor.grad is None


def strided_versions(x):
    """The same numbers in other memory: leading dimensions swapped, sliced out of a wider row, misaligned."""
    yield x.transpose(0, 1).contiguous().transpose(0, 1)
    wide = torch.full((*x.shape[:-1], x.shape[-1] + 5), float("nan"), dtype=x.dtype, device=x.device)
    wide[..., 3:-2] = x
    yield wide[..., 3:-2]
    flat = torch.empty(x.numel() + 1, dtype=x.dtype, device=x.device)
    flat[1:] = x.flatten()
    yield flat[1:].view(x.shape)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_strided_inputs_and_gradients(device, impl, dtype, activation):
    x, weight, bias, grad = draw(((2, 9), 2, 24, 40), dtype, device)
    want = run(x, weight, bias, grad, activation, impl)
    versions = [
        *zip(strided_versions(x), itertools.repeat(weight), strict=False),
        (x, weight.mT.contiguous().mT),
        (x, weight.transpose(0, 1).contiguous().transpose(0, 1)),
    ]
    for version, gradient in itertools.product(versions, [grad, *strided_versions(grad), grad.mT.contiguous().mT]):
        for g, w in zip(run(*version, bias, gradient, activation, impl), want, strict=True):
            torch.testing.assert_close(g, w)  # a product may add up in another order
    ones = torch.ones((), dtype=dtype, device=device).expand(grad.shape)
    row = x[0, 0].expand(x.shape)
    got = run(row, weight[:1].expand(2, -1, -1), bias, ones, activation, impl)
    want = run(row.contiguous(), weight[:1].repeat(2, 1, 1), bias, ones.contiguous(), activation, impl)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_every_element_is_written(device, impl, activation, monkeypatch):
    """Outputs are allocated empty: with NaN in the fresh memory, nothing of it may be left."""
    plain, plain_like = torch.Tensor.new_empty, torch.empty_like
    tensors = draw(((37,), 2, 24, 40), torch.float32, device)
    want = run(*tensors, activation, impl)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *a, **k: plain(self, *a, **k).fill_(float("nan")))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: plain_like(*a, **k).fill_(float("nan")))
    for g, w in zip(run(*tensors, activation, impl), want, strict=True):
        assert torch.equal(g, w)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_reproducible_from_run_to_run(device, impl):
    tensors = draw(((130,), 2, 96, 200), torch.float32, device)
    want = run(*tensors, "gelu", impl)
    for _ in range(3):
        for g, w in zip(run(*tensors, "gelu", impl), want, strict=True):
            assert torch.equal(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("shape", [((0, 4), 2, 3, 4), ((3,), 2, 0, 4), ((3,), 2, 4, 0)])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_empty(device, impl, shape, activation):
    x, weight, bias, grad = draw(shape, torch.float32, device)
    got = run(x, weight, bias, grad, activation, impl)
    for g, w in zip(got, exact(x, weight, bias, grad, activation), strict=True):
        torch.testing.assert_close(g, w.float())


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    x, weight, bias, grad = draw(((4,), 2, 8, 6), torch.float32, device)
    weight.requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        out = ops.grouped_linear(x.bfloat16(), weight, bias, activation="gelu", impl=impl)
    want = ops.grouped_linear(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), activation="gelu", impl=impl)
    assert torch.equal(out, want)
    out.backward(grad.bfloat16())
    assert weight.grad.dtype == torch.float32
    with torch.autocast(device, torch.bfloat16), pytest.raises(TypeError, match="weight is torch.bfloat16"):
        ops.grouped_linear(x.double(), weight, impl=impl)  # autocast leaves fp64 alone


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    def loss(x, weight, bias):
        return ops.grouped_linear(x, weight, bias, activation="gelu", impl=impl).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, (B, T) in enumerate([(4, 9), (3, 17), (7, 5)]):  # sizes equal to others would be taken for the same symbol
        tensors = draw(((B, T), 2, 8, 10), torch.float32, device)[:3]
        gradients = []
        for function in (loss, compiled):
            inputs = [t.clone().requires_grad_() for t in tensors]
            with torch.compiler.set_stance("fail_on_recompile" if i and function is compiled else "default"):
                function(*inputs).backward()
            gradients.append([t.grad for t in inputs])
        for got, want in zip(*gradients, strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_inductor(device, impl):
    """Inductor lays tensors out as it likes; what it hands to the op must still be taken as it is."""

    def function(x, weight, bias):
        hidden = ops.grouped_linear(x.sin().mT.contiguous().mT.contiguous(), weight, bias, activation="gelu", impl=impl)
        return ops.grouped_linear(hidden * 2, weight.mT, activation=None, impl=impl).cos()

    torch._dynamo.reset()
    tensors = draw(((3, 4), 2, 8, 10), torch.float32, device)[:3]
    gradients = []
    for f in (function, torch.compile(function, fullgraph=True)):
        inputs = [t.clone().requires_grad_() for t in tensors]
        out = f(*inputs)
        gradients.append([out, *torch.autograd.grad(out.sum(), inputs)])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(50):
        shape = ((rng.randint(1, 70),), rng.randint(1, 5), rng.randint(1, 90), rng.randint(1, 90))
        dtype, activation = rng.choice(DTYPES), rng.choice(list(ACTIVATIONS))
        x, weight, bias, grad = draw(shape, dtype, device, seed=rng.randrange(2**31))
        tensors = x, weight, rng.choice([bias, None]), grad, activation
        what = f"seed {seed}: {shape} {dtype} {activation}"
        assert_within_budget(run(*tensors, impl), exact(*tensors), eager(*tensors), what)


def _bad_calls():
    x, weight, bias = torch.zeros(2, 5, 6), torch.zeros(2, 3, 4), torch.zeros(8)
    yield "not a tensor", (x, weight.tolist()), "weight must be a tensor"
    yield "no dimension", (x[0, 0, 0], weight), "x must be"
    yield "integers", (x.long(), weight), "x must be float"
    yield "x strides", (x.mT.contiguous().mT, weight), "last dimension of x must be contiguous"
    yield "x width", (x[..., :5], weight), r"last dimension of x must be G·I = 2·3 = 6 for weight \[2, 3, 4\], got 5"
    yield "weight rank", (x, weight[0]), r"weight must be \[G, I, O\]"
    yield "no group", (x, weight[:0]), "with G ≥ 1"
    yield "weight dtype", (x, weight.double()), "weight is torch.float64"
    yield "weight device", (x, weight.to("meta")), "weight is on meta"
    yield "bias rank", (x, weight, bias[None]), r"bias must be \[8\]"
    yield "bias size", (x, weight, bias[:7]), r"bias must be one value an output channel = \[8\], got \[7\]"
    yield "bias dtype", (x, weight, bias.double()), "bias is torch.float64"


@pytest.mark.parametrize("impl", ["cpu", "reference"])
@pytest.mark.parametrize("arguments, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, message):
    possible, reason = ops.can_run("grouped_linear", impl, "cpu")
    if not possible:
        pytest.skip(reason)
    with pytest.raises((ValueError, TypeError), match=message):
        ops.grouped_linear(*arguments, impl=impl)


def test_unknown_activation():
    with pytest.raises(ValueError, match="grouped_linear: activation must be one of None, 'gelu'.* got 'swish'"):
        ops.grouped_linear(torch.zeros(2, 6), torch.zeros(2, 3, 4), activation="swish")
