"""feed_forward_block on every implementation that can run here."""

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.feed_forward_block import feed_forward_block_op, feed_forward_block_reference
from tests.ops.budget import assert_within_budget
from tests.ops.memory import misaligned, poisoned_memory, sliced, swapped
from tests.ops.sweep import seeded
from tests.ops.targets import compiled_targets, implementations_on_cpu, targets

TARGETS = targets("feed_forward_block", kernels=("cpu",))
COMPILED = compiled_targets("feed_forward_block", kernels=("cpu",))
SHAPES = [((2, 35, 64), 128, 1), ((70, 48), 96, 3), ((1, 24), 40, 1), ((600, 32), 128, 2), ((5,), 7, 1), ((3, 1), 4, 1)]


def draw(shape, hidden, groups=1, dtype=torch.float32, seed=0):
    """x and the weights of both layers and of the norm."""
    generator = torch.Generator().manual_seed(seed)
    width = shape[-1]
    if groups == 1:
        layers = [(hidden, width), (width, hidden)]
    else:
        layers = [(groups, width // groups, hidden // groups), (groups, hidden // groups, width // groups)]
    sizes = [shape, layers[0], (hidden,), layers[1], (width,), (width,), (width,)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def exact(tensors, activation="gelu"):
    return feed_forward_block_reference(*(x.double() for x in tensors), activation)


def eager(tensors, activation="gelu"):
    """What plain torch operations of the same dtype give."""
    x, up, up_bias, down, down_bias, weight, bias = tensors

    def layer(x, weight, bias):
        if weight.dim() == 2:
            return torch.nn.functional.linear(x, weight, bias)
        return torch.einsum("...gi,gio->...go", x.unflatten(-1, weight.shape[:2]), weight).flatten(-2) + bias

    function = {"gelu": torch.nn.functional.gelu, "relu": torch.relu, "tanh": torch.tanh, None: lambda x: x}[activation]
    result = layer(function(layer(x, up, up_bias)), down, down_bias)
    return torch.nn.functional.layer_norm(x + result, weight.shape, weight, bias, 1e-12)


def check(tensors, impl, what, activation="gelu"):
    out = ops.feed_forward_block(*tensors, activation=activation, impl=impl)
    assert out.is_contiguous() and out.dtype == tensors[0].dtype
    want = exact(tensors, activation)
    assert_within_budget(["out"], [out], [want], [eager(tensors, activation)], what, roundings=16)
    return out


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh", None])
def test_against_fp64(device, impl, activation):
    for shape, hidden, groups in SHAPES:
        if shape[-1] > 1:
            check(draw(shape, hidden, groups), impl, f"{shape} {hidden} {groups}", activation)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_one_channel_is_the_norms_bias(device, impl):
    tensors = draw((3, 1), 4)
    torch.testing.assert_close(ops.feed_forward_block(*tensors, impl=impl), tensors[-1].expand(3, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_run_on_the_reference(dtype):
    check(draw((4, 32), 64, dtype=dtype), None, str(dtype))


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_rearranged_memory(device, impl, rearrange):
    tensors = draw((6, 5, 48), 64)
    changed = [rearrange(tensors[0]), sliced(tensors[1]), tensors[2], sliced(tensors[3]), *tensors[4:]]
    torch.testing.assert_close(
        ops.feed_forward_block(*changed, impl=impl), ops.feed_forward_block(*tensors, impl=impl), atol=2e-6, rtol=2e-6
    )


@pytest.mark.parametrize("device, impl", COMPILED)
def test_rows_that_are_one_row_in_memory(device, impl):
    tensors = draw((6, 48), 64)
    expanded = [tensors[0][:1].expand(6, 48), *tensors[1:]]
    dense = [expanded[0].contiguous(), *tensors[1:]]
    assert torch.equal(ops.feed_forward_block(*expanded, impl=impl), ops.feed_forward_block(*dense, impl=impl))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written_and_the_same_again(device, impl):
    tensors = draw((300, 40), 96)
    first = ops.feed_forward_block(*tensors, impl=impl)
    with poisoned_memory():
        assert torch.equal(ops.feed_forward_block(*tensors, impl=impl), first)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads(device, impl, threads):
    tensors = draw((530, 32), 64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(tensors, impl, f"{threads} threads")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("impl", implementations_on_cpu("feed_forward_block", kernels=("cpu",)))
@pytest.mark.parametrize("shape", [(0, 8), (2, 0, 8), (3, 0)])
def test_empty(impl, shape):
    x, up, up_bias, down, down_bias, weight, bias = draw((2, max(shape[-1], 1)), 6)
    width = shape[-1]
    arguments = (up[:, :width], up_bias, down[:width], down_bias[:width], weight[:width], bias[:width])
    assert ops.feed_forward_block(torch.empty(shape), *arguments, impl=impl).shape == shape


def test_opcheck_and_compilation():
    tensors = draw((2, 5, 16), 24)
    torch.library.opcheck(feed_forward_block_op.overload, (*tensors, "gelu", 1e-12, ""))
    torch._dynamo.reset()
    compiled = torch.compile(ops.feed_forward_block, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for i, rows in enumerate((7, 9, 30)):
            case = [draw((rows, 16), 24)[0], *tensors[1:]]
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                torch.testing.assert_close(compiled(*case), ops.feed_forward_block(*case))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    _, random = seeded()
    for _ in range(20):
        groups = random.choice([1, 1, 2, 3])
        shape = (
            random.randint(1, 9),
            random.randint(1, 70),
            groups * random.randint(12, 20),
        )  # few channels may have a spread of almost nothing
        hidden = groups * random.randint(1, 40)
        tensors = draw(shape, hidden, groups, seed=random.randint(0, 999))
        check(tensors, impl, f"{shape} {hidden} {groups}", random.choice(["gelu", "relu", None]))


def broken():
    good = dict(zip(("x", "up", "up_bias", "down", "down_bias", "weight", "bias"), draw((4, 8), 12), strict=True))
    yield "up_weight", {**good, "up": torch.randn(12, 9)}
    yield "down_weight", {**good, "down": torch.randn(8, 11)}
    yield "groups must divide", {**good, "up": torch.randn(3, 2, 4), "down": torch.randn(3, 4, 2)}
    yield "up_bias", {**good, "up_bias": torch.randn(11)}
    yield "norm_bias", {**good, "bias": torch.randn(1, 8)}
    yield "contiguous", {**good, "up": torch.randn(8, 12).T}
    yield "float64", {**good, "down": good["down"].double()}
    yield "must be a tensor", {**good, "x": [1.0]}


@pytest.mark.parametrize("message, arguments", [*broken()])
def test_bad_input(message, arguments):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.feed_forward_block(*arguments.values())


def test_unknown_activation_and_wrong_dtype_for_the_kernel():
    tensors = draw((4, 8), 12)
    with pytest.raises(ValueError, match="mish"):
        ops.feed_forward_block(*tensors, activation="mish")
    if ops.can_run("feed_forward_block", "cpu", "cpu")[0]:
        with pytest.raises(RuntimeError, match="float32 only"):
            ops.feed_forward_block(*(x.double() for x in tensors), impl="cpu")


def test_a_machine_without_the_product_says_so(monkeypatch):
    from bertkernels.ops import blas, feed_forward_block

    assert feed_forward_block is ops.feed_forward_block
    monkeypatch.setattr(blas, "sgemm", lambda: (0, "there is no sgemm"))
    possible, reason = ops.can_run("feed_forward_block", "cpu", "cpu")
    assert not possible and reason
