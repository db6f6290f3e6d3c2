"""feed_forward_block with dropout and gradients, on every implementation that can run here."""

import itertools

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from bertkernels import ops
from bertkernels.ops.feed_forward_block import feed_forward_block_reference
from bertkernels.ops.feed_forward_training import feed_forward_training_backward_op, feed_forward_training_op
from bertkernels.ops.residual_norm import residual_norm_reference
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, implementations_on_cpu, targets
from tests.ops.test_feed_forward_block import SHAPES, draw

TARGETS = targets("feed_forward_block", kernels=("cpu",))
IMPLEMENTATIONS = implementations_on_cpu("feed_forward_block", kernels=("cpu",))
COMPILED = [parameters for parameters in IMPLEMENTATIONS if parameters.id == "cpu"]
NAMES = "out", "d_x", "d_up", "d_up_bias", "d_down", "d_down_bias", "d_norm_weight", "d_norm_bias"
ACTIVATIONS = ["gelu", "gelu_tanh", "relu", "tanh", "sigmoid", "leaky_relu", "elu", "swish", None]
_PLAIN = {
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "elu": torch.nn.functional.elu,
    "swish": torch.nn.functional.silu,
    None: lambda x: x,
}


def seed_of(number, device="cpu"):
    return torch.tensor([number], dtype=torch.int64, device=device)


def upstream(x, seed=1):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(x)


def run(tensors, grad, impl, activation="gelu", dropout_p=0.0, seed=3):
    """Output and gradients, with the mask that goes with the seed."""

    def function(*inputs):
        drawn = seed_of(seed, grad.device) if dropout_p else None
        return feed_forward_training_op(*inputs, drawn, activation, 1e-12, dropout_p, impl)[0]

    return with_gradients(function, tensors, grad)


def exact(tensors, grad, activation="gelu", dropout_p=0.0, seed=3):
    """Output and gradients in fp64 by autograd of the reference."""

    def function(*inputs):
        drawn = seed_of(seed, grad.device) if dropout_p else None
        return feed_forward_block_reference(*inputs, activation, 1e-12, drawn, dropout_p)

    return with_gradients(function, tensors, grad, torch.float64)


def eager(tensors, grad, activation="gelu", dropout_p=0.0, seed=3):
    """What plain torch operations of the same dtype give, one by one."""

    def layer(x, weight, bias):
        if weight.dim() == 2:
            return torch.nn.functional.linear(x, weight, bias)
        out = torch.einsum("...gi,gio->...go", x.unflatten(-1, weight.shape[:2]), weight).flatten(-2)
        return out if bias is None else out + bias

    def function(x, up, up_bias, down, down_bias, weight, bias):
        result = layer(_PLAIN[activation](layer(x, up, up_bias)), down, down_bias)
        drawn = seed_of(seed, grad.device) if dropout_p else None
        return residual_norm_reference(result, x, weight, bias, drawn, 1e-12, dropout_p)

    return with_gradients(function, tensors, grad)


def terms_of_up_bias(tensors, grad, **options):
    """What the gradient of the upper layer's bias is a sum of, one term a token: [..., hidden] in fp64."""
    x, up, up_bias, *rest = tensors
    each_token = up_bias.expand(*x.shape[:-1], -1).contiguous()
    return exact([x, up, each_token, *rest], grad, **options)[NAMES.index("d_up_bias")]


def check(tensors, impl, what, **options):
    grad = upstream(tensors[0])
    got, want, same_dtype = (
        run(tensors, grad, impl, **options),
        exact(tensors, grad, **options),
        eager(tensors, grad, **options),
    )
    of = dict(zip(NAMES, want, strict=True))
    # one hidden channel has one sum, which may cancel to almost nothing
    of["d_up_bias"] = terms_of_up_bias(tensors, grad, **options).abs().reshape(-1, len(tensors[2])).sum(0)
    assert_within_budget(NAMES, got, want, same_dtype, what, roundings=16, of=list(of.values()))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_against_fp64(device, impl, activation, dropout_p):
    for shape, hidden, groups in SHAPES:
        if shape[-1] > 1:
            what = f"{shape} {hidden} {groups}"
            tensors = [tensor.to(device) for tensor in draw(shape, hidden, groups)]
            check(tensors, impl, what, activation=activation, dropout_p=dropout_p)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_run_on_the_reference(dtype):
    check(draw((4, 32), 64, dtype=dtype), "", str(dtype), dropout_p=0.3)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("groups", [1, 2])
def test_gradcheck_of_the_reference(dropout_p, groups):
    tensors = draw((2, 3, 6), 4, groups, dtype=torch.float64)
    seed = seed_of(1) if dropout_p else None

    def function(*inputs):
        return feed_forward_training_op(*inputs, seed, "gelu", 1e-12, dropout_p, "reference")[0]

    assert torch.autograd.gradcheck(function, leaves(*tensors))


@pytest.mark.parametrize("impl", COMPILED)
@pytest.mark.parametrize("groups", [1, 2])
def test_the_sub_layers_of_one_op_each_drop_and_round_alike(impl, groups):
    """The mask is that of `residual_norm`, which the modules one by one would run."""
    tensors, grad = draw((40, 32), 64, groups), upstream(torch.empty(40, 32))

    def composed(x, up, up_bias, down, down_bias, weight, bias):
        layer = ops.linear if groups == 1 else ops.grouped_linear
        result = layer(layer(x, up, up_bias, activation="gelu"), down, down_bias)
        return ops.residual_norm(result, x, weight, bias, dropout_p=0.4)

    results = []
    for function in (lambda *a: ops.feed_forward_block(*a, dropout_p=0.4, impl=impl), composed):
        torch.manual_seed(5)
        results.append(with_gradients(function, tensors, grad))
    for name, got, want in zip(NAMES, *results, strict=True):
        torch.testing.assert_close(got, want, atol=2e-5, rtol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("missing", [2, 4])
def test_without_a_bias(impl, missing):
    tensors = draw((9, 24), 40)
    tensors[missing] = None
    inputs = [None if each is None else each.double() for each in tensors]
    grad = upstream(tensors[0])
    want = with_gradients(feed_forward_block_reference, inputs, grad.double())
    got = with_gradients(lambda *a: ops.feed_forward_block(*a, impl=impl), tensors, grad)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w.float(), atol=2e-4, rtol=2e-5)


@pytest.mark.parametrize("impl", COMPILED)
@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_strided_inputs_and_gradients(impl, rearrange):
    tensors, grad = draw((6, 5, 48), 64), upstream(torch.empty(6, 5, 48))
    x, up, up_bias, down, down_bias, weight, bias = tensors
    changed = [rearrange(x), sliced(up), misaligned(up_bias), sliced(down), misaligned(down_bias), weight, bias]
    want = run(tensors, grad, impl, dropout_p=0.2)
    for other in (rearrange(grad), transposed(grad)):
        for got, w in zip(run(changed, other, impl, dropout_p=0.2), want, strict=True):
            torch.testing.assert_close(got, w, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("impl", COMPILED)
def test_rows_that_are_one_row_in_memory(impl):
    x, *weights = draw((6, 48), 64)
    expanded = x[:1].expand(6, 48)
    got = run([expanded, *weights], expanded_ones(x), impl)
    assert_same_bits(got, run([expanded.contiguous(), *weights], torch.ones_like(x), impl))


@pytest.mark.parametrize("impl", COMPILED)
@pytest.mark.parametrize("groups", [1, 2])
def test_every_element_is_written_and_the_same_again(impl, groups):
    tensors, grad = draw((700, 40), 98, groups), upstream(torch.empty(700, 40))
    want = run(tensors, grad, impl, dropout_p=0.2)
    with poisoned_memory():
        assert_same_bits(run(tensors, grad, impl, dropout_p=0.2), want)


@pytest.mark.parametrize("impl", COMPILED)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads(impl, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rows in (1, 17, 530, 1300):
            check(draw((rows, 32), 64), impl, f"{threads} threads, {rows} rows", dropout_p=0.1)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_only_wanted_gradients(impl, dropout_p):
    tensors, grad = draw((7, 20), 28), upstream(torch.empty(7, 20))
    _, *want = run(tensors, grad, impl, dropout_p=dropout_p)
    seed = seed_of(3) if dropout_p else None
    for wanted in itertools.product([False, True], repeat=7):
        inputs = [tensor.clone().requires_grad_(w) for tensor, w in zip(tensors, wanted, strict=True)]
        out, *kept = feed_forward_training_op(*inputs, seed, "gelu", 1e-12, dropout_p, impl)
        assert out.requires_grad == any(wanted) and not any(each.requires_grad for each in kept)
        if any(wanted):
            out.backward(grad)
        for tensor, w, gradient in zip(inputs, wanted, want, strict=True):
            assert torch.equal(tensor.grad, gradient) if w else tensor.grad is None


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(0, 8), (2, 0, 8), (3, 0)])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_empty(impl, shape, dropout_p):
    x, up, up_bias, down, down_bias, weight, bias = draw((2, max(shape[-1], 1)), 6)
    width = shape[-1]
    weights = (up[:, :width], up_bias, down[:width], down_bias[:width], weight[:width], bias[:width])
    out, d_x, *gradients = run([torch.empty(shape), *weights], torch.empty(shape), impl, dropout_p=dropout_p)
    assert out.shape == d_x.shape == shape
    for gradient, of in zip(gradients, weights, strict=True):
        assert gradient.shape == of.shape and not gradient.any()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_what_was_dropped_reaches_nothing(impl):
    """Where nearly all is dropped, the down layer's weight has next to no gradient, and its mask is the forward's."""
    tensors = draw((50, 16), 24)
    out, _, _, _, _, d_down_bias, _, _ = run(tensors, upstream(tensors[0]), impl, dropout_p=0.999)
    x, *_, weight, bias = tensors
    alone = torch.nn.functional.layer_norm(x, weight.shape, weight, bias, 1e-12)
    kept = ((out - alone).abs() > 1e-4).any(-1)
    assert kept.sum() < 10
    assert (d_down_bias != 0).sum() <= 16 * kept.sum()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_dropout_comes_from_the_generator(impl):
    tensors = draw((9, 48), 32)

    def function():
        return ops.feed_forward_block(*tensors, dropout_p=0.2, impl=impl)

    torch.manual_seed(5)
    first, second = function(), function()
    torch.manual_seed(5)
    assert torch.equal(function(), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_a_checkpoint_repeats_the_same_dropout(impl):
    tensors, grad = draw((30, 16), 24), upstream(torch.empty(30, 16))

    def function(*inputs):
        return ops.feed_forward_block(*inputs, dropout_p=0.3, impl=impl)

    results = []
    for call in (function, lambda *inputs: checkpoint(function, *inputs, use_reentrant=False)):
        torch.manual_seed(7)
        results.append(with_gradients(call, tensors, grad))
    assert_same_bits(*results)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_opcheck(impl, dropout_p):
    tensors, grad = draw((3, 4, 6), 10), upstream(torch.empty(3, 4, 6))
    seed = seed_of(1) if dropout_p else None
    for x in (tensors[0], sliced(tensors[0])):
        arguments = (x, *tensors[1:])
        options = (seed, "gelu", 1e-12, dropout_p, impl)
        torch.library.opcheck(feed_forward_training_op.overload, (*leaves(*arguments), *options))
        _, *kept = feed_forward_training_op(*arguments, *options)
        x, up, up_bias, down, _, weight, _ = arguments
        for back, wanted in ((grad, [True] * 7), (expanded_ones(grad), [False, True] * 3 + [False])):
            inputs = (back, x, up, up_bias, down, weight, seed, *kept, "gelu", dropout_p, wanted, impl)
            torch.library.opcheck(feed_forward_training_backward_op.overload, inputs)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_compiles_whole_without_recompiling(impl):
    weights = draw((1, 8), 12)[1:]
    cases = [[draw((B, T, 8), 12)[0], *weights] for B, T in [(4, 9), (3, 17), (7, 5)]]
    assert_compiles_whole_without_recompiling(lambda *a: ops.feed_forward_block(*a, impl=impl), cases)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_kept_is_as_announced(dtype):
    tensors = draw((4, 6), 10, dtype=dtype)
    with torch.device("meta"):
        announced = feed_forward_training_op(*(x.to("meta") for x in tensors), None, "gelu", 1e-12, 0.0, "")
    for got, want in zip(feed_forward_training_op(*tensors, None, "gelu", 1e-12, 0.0, ""), announced, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype and got.stride() == want.stride()


@pytest.mark.parametrize("impl", COMPILED)
def test_random_sweep(impl):
    seed, random = seeded()
    for _ in range(30):
        groups = random.choice([1, 1, 2, 3])
        # few channels may have a spread of almost nothing
        shape = (random.randint(1, 9), random.randint(1, 90), groups * random.randint(12, 20))
        hidden = groups * random.randint(1, 40)
        tensors = draw(shape, hidden, groups, seed=random.randint(0, 999))
        options = {"activation": random.choice(ACTIVATIONS), "dropout_p": random.choice([0.0, 0.1, 0.6])}
        check(tensors, impl, f"seed {seed}: {shape} {hidden} {groups} {options}", **options)


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "from bertkernels.ops.feed_forward_training import feed_forward_training_op\n"
        "seed = torch.tensor([12345])\n"
        "for hidden in (5, 64, 77):\n"
        "  for activation in ('gelu', 'relu', 'tanh'):\n"
        "    sizes = ((37, 24), (hidden, 24), (hidden,), (24, hidden), (24,), (24,), (24,))\n"
        "    inputs = [torch.randn(*s).requires_grad_() for s in sizes]\n"
        "    options = (seed, activation, 1e-12, 0.5)\n"
        "    outs = [feed_forward_training_op(*inputs, *options, i)[0] for i in ('cpu', 'reference')]\n"
        "    grads = [torch.autograd.grad(o, inputs, torch.ones_like(o)) for o in outs]\n"
        "    for a, b in zip((outs[0], *grads[0]), (outs[1], *grads[1])):\n"
        "      torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-4)\n"
    )
    run_with_instruction_set("feed_forward_block", isa, code)


@pytest.mark.parametrize("dropout_p", [1.0, -0.1, float("nan")])
def test_bad_dropout(dropout_p):
    with pytest.raises(ValueError, match="dropout_p must be from 0 to below 1"):
        ops.feed_forward_block(*draw((4, 8), 12), dropout_p=dropout_p)
