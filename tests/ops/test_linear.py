"""linear on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools
import random

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import ACTIVATIONS
from bertkernels.ops.linear import linear_backward_op, linear_op, linear_reference

TARGETS = [
    pytest.param("cpu", "reference", id="reference"),
    pytest.param("cpu", "torch", id="torch"),
    pytest.param("cuda", "reference", id="reference-gpu", marks=pytest.mark.gpu),
    pytest.param("cuda", "torch", id="torch-gpu", marks=pytest.mark.gpu),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# leading dimensions, I, O
SHAPES = [((2, 17), 24, 40), ((33,), 5, 7), ((2, 3, 4), 96, 30), ((1,), 1, 1), ((), 12, 8)]
EPILOGUES = [*ACTIVATIONS, "multiplier"]


@pytest.fixture(autouse=True)
def _needs(request):
    parameters = getattr(request.node, "callspec", None)
    if parameters is not None and parameters.params.get("device") == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")


def draw(shape, dtype, device="cpu", seed=0):
    """x, weight, bias, multiplier and an output gradient."""
    lead, width_in, width_out = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(*lead, width_in), (width_out, width_in), (width_out,), (*lead, width_out), (*lead, width_out)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(device) for size in sizes]


def arguments_of(epilogue, multiplier):
    return {"multiplier": multiplier} if epilogue == "multiplier" else {"activation": epilogue}


def gradients_of(function, x, weight, bias, multiplier, grad, epilogue):
    """Output and gradients of x, weight, and of bias and multiplier where they take part."""
    leaf = [None if t is None else t.detach().requires_grad_() for t in (x, weight, bias, multiplier)]
    out = function(*leaf[:3], **arguments_of(epilogue, leaf[3]))
    taken = [t for t in leaf[: 4 if epilogue == "multiplier" else 3] if t is not None]
    return out.detach(), *torch.autograd.grad(out, taken, grad)


def run(*tensors, impl):
    return gradients_of(lambda *a, **k: ops.linear(*a, impl=impl, **k), *tensors)


def exact(*tensors):
    """In fp64 by autograd of the reference."""
    wide = [t.double() if isinstance(t, torch.Tensor) else t for t in tensors]
    return gradients_of(
        lambda x, w, b, multiplier=None, activation=None: linear_reference(x, w, b, multiplier, activation), *wide
    )


def eager(*tensors):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""

    def function(x, weight, bias, multiplier=None, activation=None):
        out = x @ weight.mT
        out = out if bias is None else out + bias
        out = torch.nn.functional.gelu(out) if activation == "gelu" else ACTIVATIONS[activation][0](out)
        return out if multiplier is None else out * multiplier

    return gradients_of(function, *tensors)


def magnitudes(x, weight, bias, multiplier, grad, epilogue):
    """What each result would be if all of its terms had one sign: their rounding errors are in proportion to it."""
    tensors = [t if t is None else t.abs() for t in (x, weight, bias, multiplier, grad)]
    return exact(*tensors, epilogue if epilogue == "multiplier" else None)


def check(got, tensors, what):
    """At most twice the error of eager torch in the same dtype, plus one rounding of the largest sum of magnitudes.

    Four in fp64, where what counts as exact is itself rounded, and eager torch in just the same way.
    """
    results = zip(got, exact(*tensors), eager(*tensors), magnitudes(*tensors), strict=False)
    for i, (g, w, e, size) in enumerate(results):
        assert g.shape == w.shape
        roundings = 4 if g.dtype == torch.float64 else 1
        budget = 2 * (e.double() - w).abs().max() + roundings * torch.finfo(g.dtype).eps * size.max()
        error = (g.double() - w).abs().max()
        assert error <= budget, f"{what}: result {i} is off by {error:.3g}, budget {budget:.3g}"


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_against_fp64(device, impl, dtype, epilogue):
    for shape in SHAPES:
        x, weight, bias, multiplier, grad = draw(shape, dtype, device)
        for b in (bias, None):
            tensors = x, weight, b, multiplier, grad, epilogue
            check(run(*tensors, impl=impl), tensors, f"{shape}")
            with torch.no_grad():  # another path: the epilogue is part of the product
                got = ops.linear(x, weight, b, impl=impl, **arguments_of(epilogue, multiplier))
            check([got], tensors, f"{shape} without gradients")


@pytest.mark.parametrize("device, impl", TARGETS)
def test_equals_torchs_layer(device, impl):
    layer = torch.nn.Linear(12, 20, device=device)
    x = torch.randn(3, 7, 12, device=device)
    got = ops.linear(x, layer.weight, layer.bias, impl=impl)
    torch.testing.assert_close(got, layer(x))
    grads = [torch.autograd.grad(out.square().sum(), (layer.weight, layer.bias)) for out in (got, layer(x))]
    for g, w in zip(*grads, strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_gradcheck(device, impl, epilogue):
    x, weight, bias, multiplier, _ = draw(((2, 3), 3, 4), torch.float64, device)
    inputs = [t.requires_grad_() for t in (x, weight, bias, multiplier)]
    function = lambda x, w, b, m: ops.linear(x, w, b, impl=impl, **arguments_of(epilogue, m))  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    x, weight, bias, multiplier, grad = draw(((2, 5), 6, 8), torch.float32, device)
    sliced = torch.randn(2, 5, 9, device=device)[..., 2:8]
    cases = [(x, bias, None, "gelu", True), (x, None, multiplier, None, True), (sliced, bias, None, None, False)]
    for tensor, b, m, activation, keep in cases:
        inputs = [t if t is None or t is sliced else t.clone().requires_grad_() for t in (tensor, weight, b, m)]
        torch.library.opcheck(linear_op, (*inputs, activation, keep, impl))
        _, product = linear_op(tensor, weight, b, m, activation, keep, impl)
        expanded = torch.ones((), device=device).expand(grad.shape)
        wanted = [True, keep, b is not None, m is not None]
        torch.library.opcheck(linear_backward_op, (expanded, tensor, weight, b, product, m, activation, wanted, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("epilogue", [None, "gelu", "multiplier"])
def test_the_product_is_kept_only_for_gradients(device, impl, epilogue):
    x, weight, bias, multiplier, grad = draw(((2, 5), 6, 8), torch.float32, device)
    want = run(x, weight, bias, multiplier, grad, epilogue, impl=impl)
    inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
    m, activation = (multiplier, None) if epilogue == "multiplier" else (None, epilogue)
    for keep in (True, False):  # the backward pass makes the product anew where it was not kept
        out, product = linear_op(*inputs, m, activation, keep, impl)
        assert product.numel() == (out.numel() if keep and epilogue else 0) and not product.requires_grad
        for g, w in zip((out, *torch.autograd.grad(out, inputs, grad)), want, strict=False):
            torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_only_wanted_gradients(device, impl):
    x, weight, bias, multiplier, grad = draw(((2, 5), 6, 8), torch.float32, device)
    _, *want = run(x, weight, bias, multiplier, grad, "multiplier", impl=impl)
    for wanted in itertools.product([False, True], repeat=4):
        inputs = [t.clone().requires_grad_(w) for t, w in zip((x, weight, bias, multiplier), wanted, strict=True)]
        out = ops.linear(*inputs[:3], multiplier=inputs[3], impl=impl)
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
@pytest.mark.parametrize("epilogue", [None, "gelu", "multiplier"])
def test_strided_inputs_and_gradients(device, impl, dtype, epilogue):
    x, weight, bias, multiplier, grad = draw(((2, 9), 24, 40), dtype, device)
    want = run(x, weight, bias, multiplier, grad, epilogue, impl=impl)
    versions = [(x, weight, m) for m in strided_versions(multiplier)] if epilogue == "multiplier" else []
    versions += [(other, weight, multiplier) for other in strided_versions(x)]
    versions += [(x, weight.mT.contiguous().mT, multiplier), (x, torch.stack([weight, weight], 1)[:, 0], multiplier)]
    for (a, w, m), gradient in itertools.product(versions, [grad, *strided_versions(grad)]):
        for got, wanted in zip(run(a, w, bias, m, gradient, epilogue, impl=impl), want, strict=True):
            torch.testing.assert_close(got, wanted)  # a product may add up in another order
    ones = torch.ones((), dtype=dtype, device=device).expand(grad.shape)
    row = x[0, 0].expand(x.shape)
    got = run(row, weight, bias, multiplier[:1, :1].expand_as(multiplier), ones, epilogue, impl=impl)
    dense = (row.contiguous(), weight, bias, multiplier[:1, :1].expand_as(multiplier).contiguous(), ones.contiguous())
    for g, w in zip(got, run(*dense, epilogue, impl=impl), strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_reproducible_from_run_to_run(device, impl):
    tensors = draw(((130,), 192, 200), torch.float32, device)
    for epilogue in ("gelu", "multiplier"):
        want = run(*tensors, epilogue, impl=impl)
        for _ in range(3):
            for g, w in zip(run(*tensors, epilogue, impl=impl), want, strict=True):
                assert torch.equal(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("shape", [((0, 4), 3, 4), ((3,), 0, 4), ((3,), 4, 0)])
@pytest.mark.parametrize("epilogue", [None, "sigmoid", "multiplier"])
def test_empty(device, impl, shape, epilogue):
    tensors = *draw(shape, torch.float32, device), epilogue
    for g, w in zip(run(*tensors, impl=impl), exact(*tensors), strict=True):
        torch.testing.assert_close(g, w.float())


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    x, weight, bias, multiplier, grad = draw(((4,), 8, 6), torch.float32, device)
    weight.requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        out = ops.linear(x.bfloat16(), weight, bias, multiplier=multiplier, impl=impl)
    halves = [t.bfloat16() for t in (x, weight, bias, multiplier)]
    assert torch.equal(out, ops.linear(*halves[:3], multiplier=halves[3], impl=impl))
    out.backward(grad.bfloat16())
    assert weight.grad.dtype == torch.float32
    with torch.autocast(device, torch.bfloat16), pytest.raises(TypeError, match="weight is torch.bfloat16"):
        ops.linear(x.double(), weight, impl=impl)  # autocast leaves fp64 alone


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    def loss(x, weight, bias, multiplier):
        gelu = ops.linear(x, weight, bias, activation="gelu", impl=impl)
        return (gelu + ops.linear(x, weight, multiplier=multiplier, impl=impl)).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, (B, T) in enumerate([(4, 9), (3, 17), (7, 5)]):  # sizes equal to others would be taken for the same symbol
        tensors = draw(((B, T), 16, 10), torch.float32, device)[:4]
        gradients = []
        for function in (loss, compiled):
            inputs = [t.clone().requires_grad_() for t in tensors]
            with torch.compiler.set_stance("fail_on_recompile" if i and function is compiled else "default"):
                function(*inputs).backward()
            gradients.append([t.grad for t in inputs])
        for got, want in zip(*gradients, strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_random_sweep(device, impl):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(50):
        shape = ((rng.randint(2, 70),), rng.randint(1, 200), rng.randint(2, 200))
        dtype, epilogue = rng.choice(DTYPES), rng.choice(EPILOGUES)
        x, weight, bias, multiplier, grad = draw(shape, dtype, device, seed=rng.randrange(2**31))
        tensors = x, weight, rng.choice([bias, None]), multiplier, grad, epilogue
        check(run(*tensors, impl=impl), tensors, f"seed {seed}: {shape} {dtype} {epilogue}")


def _bad_calls():
    x, weight, bias, multiplier = torch.zeros(2, 5, 6), torch.zeros(8, 6), torch.zeros(8), torch.zeros(2, 5, 8)
    yield "not a tensor", (x, weight.tolist()), {}, "weight must be a tensor"
    yield "integers", (x.long(), weight), {}, "x must be float"
    yield "x strides", (x.mT.contiguous().mT, weight), {}, "last dimension of x must be contiguous"
    yield "weight rank", (x, weight[0]), {}, r"weight must be \[O, I\] with I = 6, got shape \[6\]"
    yield "weight width", (x, weight[:, :5]), {}, r"weight must be \[O, I\] with I = 6, got shape \[8, 5\]"
    yield "weight dtype", (x, weight.double()), {}, "weight is torch.float64"
    yield "weight device", (x, weight.to("meta")), {}, "weight is on meta"
    yield "bias size", (x, weight, bias[:7]), {}, r"bias must be one value an output channel = \[8\], got \[7\]"
    yield "multiplier shape", (x, weight), {"multiplier": multiplier[:1]}, r"multiplier must be \[…, O\] = \[2, 5, 8\]"
    yield "multiplier dtype", (x, weight), {"multiplier": multiplier.double()}, "multiplier is torch.float64"
    yield "both", (x, weight), {"multiplier": multiplier, "activation": "gelu"}, "an activation or a multiplier, not"
    yield "activation", (x, weight), {"activation": "swish"}, "activation must be one of None, 'gelu'.* got 'swish'"


@pytest.mark.parametrize("impl", ["torch", "reference"])
@pytest.mark.parametrize("arguments, options, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.linear(*arguments, **options, impl=impl)
