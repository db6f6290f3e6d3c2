"""dynamic_conv_block, with dropout and gradients, on every implementation that can run here."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from bertkernels import ops
from bertkernels.ops.dynamic_conv_block import (
    LAYERS,
    dynamic_conv_block_backward_op,
    dynamic_conv_block_op,
    dynamic_conv_block_reference,
)
from bertkernels.ops.residual_norm import residual_norm_reference
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, implementations_on_cpu, targets

TARGETS = targets("dynamic_conv_block", kernels=("cpu",))
IMPLEMENTATIONS = implementations_on_cpu("dynamic_conv_block", kernels=("cpu",))
COMPILED = [parameters for parameters in IMPLEMENTATIONS if parameters.id == "cpu"]
NAMES = ("out", "d_x", "d_depthwise", *(f"d_{name}" for name in LAYERS), *(f"d_{name}_bias" for name in LAYERS))
NAMES += ("d_norm_weight", "d_norm_bias")
# B, T, C, H, D, K, S
SHAPES = [
    (2, 35, 64, 4, 16, 9, 9),
    (1, 7, 32, 2, 8, 5, 5),  # fewer tokens than kernels have rows
    (3, 100, 24, 4, 9, 4, 6),
    (5, 1, 16, 1, 4, 9, 9),
    (1, 200, 16, 2, 8, 1, 3),
]


def draw(batch, tokens, channels, heads, width, taps, span, dtype=torch.float32, seed=0):
    """x, depthwise weight, five weights, five biases, the norm's weight and bias; and the number of heads."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size, std=1.0):
        return (torch.randn(size, generator=generator, dtype=torch.float64) * std).to(dtype)

    inner = heads * width
    shapes = ((inner, channels), (inner, channels), (inner, inner), (heads * taps, inner), (channels, inner))
    weights = [normal(*shape, std=shape[1] ** -0.5) for shape in shapes]
    biases = [normal(shape[0], std=0.5) for shape in shapes]
    norm = normal(channels), normal(channels)
    x, depthwise = normal(batch, tokens, channels), normal(inner, span, std=span**-0.5)
    return [x, depthwise, *weights, *biases, *norm], heads


def in_lists(function):
    """A function of the tensors one by one from one that takes weights and biases as lists."""
    return lambda x, depthwise, *rest, **options: function(
        x, depthwise, list(rest[:5]), list(rest[5:10]), *rest[10:], **options
    )


def seed_of(number):
    return torch.tensor([number], dtype=torch.int64)


def upstream(x, seed=1):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(x)


def run(tensors, heads, grad, impl, dropout_p=0.0, seed=3, cu_seqlens=None):
    """Output and gradients, with the mask that goes with the seed."""

    def function(*inputs):
        drawn = seed_of(seed).to(grad.device) if dropout_p else None
        return dynamic_conv_block_op(*inputs, cu_seqlens, drawn, heads, 1e-12, dropout_p, True, impl)[0]

    return with_gradients(function, tensors, grad)


def exact(tensors, heads, grad, dropout_p=0.0, seed=3, cu_seqlens=None):
    """Output and gradients in fp64 by autograd of the reference."""

    def function(*inputs):
        drawn = seed_of(seed).to(grad.device) if dropout_p else None
        options = {"heads": heads, "cu_seqlens": cu_seqlens, "seed": drawn, "dropout_p": dropout_p}
        return in_lists(dynamic_conv_block_reference)(*inputs, **options)

    return with_gradients(function, tensors, grad, torch.float64)


def unfolded(heads, dropout_p=0.0, seed=3):
    """The formula, layer by layer, by plain torch operations of the inputs' dtype, on padded input."""

    def windows(x, taps):  # [B, T, N, K]: what each token's K taps see of N channels
        return torch.nn.functional.pad(x, (0, 0, (taps - 1) // 2, taps // 2)).unfold(1, taps, 1)

    def function(x, depthwise, *rest):
        linear = torch.nn.functional.linear
        layer = dict(zip(LAYERS, zip(rest[:5], rest[5:10], strict=True), strict=True))
        gated = linear(x, *layer["value"]) * torch.sigmoid(linear(x, *layer["gate"]))
        span = (windows(gated, depthwise.shape[1]) * depthwise).sum(-1)
        logits = linear(linear(span, *layer["pointwise"]), *layer["kernel"]).unflatten(-1, (heads, -1))
        values = windows(gated, logits.shape[-1]).unflatten(2, (heads, -1))  # [B, T, H, D, K]
        convolved = torch.einsum("bthdk,bthk->bthd", values, logits.softmax(-1))
        result = linear(convolved.flatten(-2), *layer["output"])
        drawn = seed_of(seed) if dropout_p else None
        return residual_norm_reference(result, x, *rest[10:], drawn, 1e-12, dropout_p)

    return function


def check(tensors, heads, impl, what, dropout_p=0.0):
    grad = upstream(tensors[0])
    got = run(tensors, heads, grad, impl, dropout_p)
    eager = with_gradients(unfolded(heads, dropout_p), tensors, grad)
    assert_within_budget(NAMES, got, exact(tensors, heads, grad, dropout_p), eager, what, roundings=16)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_against_fp64(device, impl, dropout_p):
    for shape in SHAPES:
        tensors, heads = draw(*shape)
        check(tensors, heads, impl, str(shape), dropout_p)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_inference_against_fp64(device, impl):
    """With few tokens layer by layer, with more through one weight for two layers."""
    for shape in SHAPES:
        tensors, heads = draw(*shape)
        out = in_lists(ops.dynamic_conv_block)(*tensors, heads=heads, impl=impl)
        assert out.is_contiguous() and out.dtype == torch.float32
        want = in_lists(dynamic_conv_block_reference)(*(tensor.double() for tensor in tensors), heads=heads)
        assert_within_budget(["out"], [out], [want], [unfolded(heads)(*tensors)], str(shape), roundings=16)


def test_the_reference_is_the_formula_in_plain_torch():
    for shape in SHAPES:
        tensors, heads = draw(*shape, dtype=torch.float64)
        want = with_gradients(unfolded(heads), tensors, upstream(tensors[0]))
        for got, expected in zip(exact(tensors, heads, upstream(tensors[0])), want, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_run_on_the_reference(dtype):
    tensors, heads = draw(2, 9, 16, 2, 4, 5, 5, dtype=dtype)
    check(tensors, heads, "", str(dtype), dropout_p=0.3)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("packed", [False, True])
def test_gradcheck_of_the_reference(dropout_p, packed):
    (x, *weights), heads = draw(1, 5, 6, 2, 2, 3, 2, dtype=torch.float64)
    x, starts = (x[0], torch.tensor([0, 2, 2, 5], dtype=torch.int32)) if packed else (x, None)
    seed = seed_of(1) if dropout_p else None

    def function(*inputs):
        return dynamic_conv_block_op(*inputs, starts, seed, heads, 1e-12, dropout_p, True, "reference")[0]

    assert torch.autograd.gradcheck(function, leaves(x, *weights))


@pytest.mark.parametrize("impl", COMPILED)
def test_the_sub_layers_of_one_op_each_drop_and_round_alike(impl):
    """The mask is that of `residual_norm`, which the modules one by one would run."""
    tensors, heads = draw(3, 40, 32, 4, 8, 9, 9)
    grad = upstream(tensors[0])

    def composed(x, depthwise, *rest):
        value, gate, pointwise, kernel, output = zip(rest[:5], rest[5:10], strict=True)
        gated = ops.glu(ops.linear(x, value[0]), ops.linear(x, gate[0]), value[1], gate[1])
        logits = ops.linear(ops.linear(ops.depthwise_conv(gated, depthwise), *pointwise), *kernel)
        out = ops.light_conv(gated.unflatten(-1, (heads, -1)), logits.unflatten(-1, (heads, -1)))
        return ops.residual_norm(ops.linear(out.flatten(-2), *output), x, *rest[10:], dropout_p=0.4)

    def whole(*inputs):
        return in_lists(ops.dynamic_conv_block)(*inputs, heads=heads, dropout_p=0.4, impl=impl)

    results = []
    for function in (whole, composed):
        torch.manual_seed(5)
        results.append(with_gradients(function, tensors, grad))
    for name, got, want in zip(NAMES, *results, strict=True):
        torch.testing.assert_close(got, want, atol=5e-5, rtol=5e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("starts", [[0, 40], [0, 3, 3, 25, 40], [0, 1, 2, 39, 40], [0, 0, 40, 40]])
def test_packed_is_a_loop_over_sequences(device, impl, starts):
    (x, *weights), heads = draw(1, 40, 32, 2, 8, 9, 9)
    cu_seqlens, grad = torch.tensor(starts, dtype=torch.int32), upstream(x)[0]
    got = run([x[0], *weights], heads, grad, impl, dropout_p=0.0, cu_seqlens=cu_seqlens)
    parts = [
        run([x[:, a:b], *weights], heads, grad[None, a:b], impl)
        for a, b in zip(starts, starts[1:], strict=False)
        if a < b
    ]
    for i in (0, 1):
        torch.testing.assert_close(got[i], torch.cat([part[i][0] for part in parts]), atol=5e-6, rtol=5e-6)
    for i in range(2, len(NAMES)):
        torch.testing.assert_close(got[i], sum(part[i] for part in parts), atol=5e-5, rtol=5e-5)
    with torch.no_grad():
        out = in_lists(ops.dynamic_conv_block)(x[0], *weights, heads=heads, cu_seqlens=cu_seqlens, impl=impl)
    torch.testing.assert_close(out, got[0], atol=5e-6, rtol=5e-6)


@pytest.mark.parametrize("impl", COMPILED)
@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_strided_inputs_and_gradients(impl, rearrange):
    tensors, heads = draw(6, 9, 24, 2, 8, 5, 5)
    grad = upstream(tensors[0])
    changed = [rearrange(tensors[0]), *map(sliced, tensors[1:7]), *map(misaligned, tensors[7:])]
    want = run(tensors, heads, grad, impl, dropout_p=0.2)
    for other in (rearrange(grad), transposed(grad)):
        for got, w in zip(run(changed, heads, other, impl, dropout_p=0.2), want, strict=True):
            torch.testing.assert_close(got, w, atol=3e-5, rtol=3e-5)
    with torch.no_grad():
        for some in (1, 6):
            first, *rest = changed
            got, out = (
                in_lists(ops.dynamic_conv_block)(x[:some], *others, heads=heads, impl=impl)
                for x, others in ((first, rest), (tensors[0], tensors[1:]))
            )
            torch.testing.assert_close(got, out, atol=5e-6, rtol=5e-6)


@pytest.mark.parametrize("impl", COMPILED)
def test_tokens_that_are_one_token_in_memory(impl):
    (x, *weights), heads = draw(2, 9, 32, 2, 8, 3, 3)
    x = x[:, :1].expand(2, 9, 32)
    got = run([x, *weights], heads, expanded_ones(x), impl)
    assert_same_bits(got, run([x.contiguous(), *weights], heads, torch.ones_like(x), impl))


@pytest.mark.parametrize("impl", COMPILED)
def test_every_element_is_written_and_the_same_again(impl):
    tensors, heads = draw(7, 60, 24, 3, 7, 9, 4)
    grad, function = upstream(tensors[0]), in_lists(ops.dynamic_conv_block)
    want = run(tensors, heads, grad, impl, dropout_p=0.2)
    alone = [function(tensors[0][:, :some], *tensors[1:], heads=heads, impl=impl) for some in (2, 60)]
    with poisoned_memory():
        assert_same_bits(run(tensors, heads, grad, impl, dropout_p=0.2), want)
        again = [function(tensors[0][:, :some], *tensors[1:], heads=heads, impl=impl) for some in (2, 60)]
    assert_same_bits(again, alone)


@pytest.mark.parametrize("impl", COMPILED)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_any_number_of_threads(impl, threads, batch):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        tensors, heads = draw(batch, 50, 32, 4, 8, 9, 9)
        check(tensors, heads, impl, f"{threads} threads", dropout_p=0.1)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("impl", COMPILED)
def test_many_batches_of_sequences(impl):
    """More tokens than are computed together, in sequences of one token and of many."""
    lengths = [700, 1, 300, 0, 513, 90, 1200]
    total = sum(lengths)
    (x, *weights), heads = draw(1, total, 64, 4, 64, 9, 9)
    starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    grad = upstream(x)[0]
    got = run([x[0], *weights], heads, grad, impl, dropout_p=0.1, cu_seqlens=starts)
    want = run([x[0], *weights], heads, grad, "reference", dropout_p=0.1, cu_seqlens=starts)
    for name, g, w in zip(NAMES, got, want, strict=True):
        torch.testing.assert_close(g, w, atol=2e-4 * float(w.abs().max()), rtol=1e-4, msg=lambda t, n=name: f"{n}: {t}")


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_only_wanted_gradients(impl, dropout_p):
    tensors, heads = draw(2, 9, 16, 2, 6, 5, 3)
    grad = upstream(tensors[0])
    _, *want = run(tensors, heads, grad, impl, dropout_p=dropout_p)
    seed = seed_of(3) if dropout_p else None
    count = len(tensors)
    choices = [[i == j for i in range(count)] for j in range(count)] + [
        [i != j for i in range(count)] for j in range(count)
    ]
    for wanted in choices:
        inputs = [tensor.clone().requires_grad_(w) for tensor, w in zip(tensors, wanted, strict=True)]
        out, *kept = dynamic_conv_block_op(*inputs, None, seed, heads, 1e-12, dropout_p, True, impl)
        assert out.requires_grad and not any(each.requires_grad for each in kept)
        out.backward(grad)
        for tensor, w, gradient in zip(inputs, wanted, want, strict=True):
            assert torch.equal(tensor.grad, gradient) if w else tensor.grad is None


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_empty(impl, shape):
    tensors, heads = draw(*shape, 16, 2, 4, 3, 3)
    out, d_x, *gradients = run(tensors, heads, torch.empty(*shape, 16), impl)
    assert out.shape == d_x.shape == (*shape, 16)
    for gradient, of in zip(gradients, tensors[1:], strict=True):
        assert gradient.shape == of.shape and not gradient.any()
    assert in_lists(ops.dynamic_conv_block)(*tensors, heads=heads, impl=impl).shape == (*shape, 16)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_dropout_comes_from_the_generator_and_a_checkpoint_repeats_it(impl):
    tensors, heads = draw(2, 15, 48, 2, 8, 5, 5)
    grad = upstream(tensors[0])

    def function(*inputs):
        return in_lists(ops.dynamic_conv_block)(*inputs, heads=heads, dropout_p=0.2, impl=impl)

    torch.manual_seed(5)
    first, second = function(*tensors), function(*tensors)
    torch.manual_seed(5)
    assert torch.equal(function(*tensors), first) and not torch.equal(first, second)
    results = []
    for call in (function, lambda *inputs: checkpoint(function, *inputs, use_reentrant=False)):
        torch.manual_seed(7)
        results.append(with_gradients(call, tensors, grad))
    assert_same_bits(*results)
    with torch.no_grad():
        torch.manual_seed(7)
        torch.testing.assert_close(function(*tensors), results[0][0], atol=5e-6, rtol=5e-6)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_opcheck(impl, dropout_p):
    (x, *weights), heads = draw(3, 4, 6, 2, 5, 3, 4)
    grad, seed = upstream(x), seed_of(1) if dropout_p else None
    for tokens in (x, sliced(x)):
        arguments, options = (tokens, *weights), (None, seed, heads, 1e-12, dropout_p)
        torch.library.opcheck(dynamic_conv_block_op.overload, (*leaves(*arguments), *options, True, impl))
        torch.library.opcheck(dynamic_conv_block_op.overload, (*arguments, *options, False, impl))
        _, *kept = dynamic_conv_block_op(*arguments, *options, True, impl)
        saved = (*arguments[:7], weights[7], weights[8], weights[11], *kept, None, seed, heads, dropout_p)
        for back, wanted in ((grad, [True] * 4), (expanded_ones(grad), [False, True, False, True])):
            torch.library.opcheck(dynamic_conv_block_backward_op.overload, (back, *saved, wanted, impl))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_compiles_whole_without_recompiling(impl):
    cases = []
    for tokens in [(4, 9), (3, 17), (7, 5)]:
        tensors, heads = draw(*tokens, 8, 2, 6, 5, 5)
        cases.append(tensors)
    function = in_lists(ops.dynamic_conv_block)
    assert_compiles_whole_without_recompiling(lambda *a: function(*a, heads=heads, impl=impl), cases)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("keep", [False, True])
def test_what_is_kept_is_as_announced(dtype, keep):
    tensors, heads = draw(2, 4, 6, 2, 3, 5, 4, dtype=dtype)
    options = (None, None, heads, 1e-12, 0.0, keep, "")
    announced = dynamic_conv_block_op(*(tensor.to("meta") for tensor in tensors), *options)
    for got, want in zip(dynamic_conv_block_op(*tensors, *options), announced, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype and got.stride() == want.stride()


@pytest.mark.parametrize("impl", COMPILED)
def test_random_sweep(impl):
    seed, random = seeded()
    for _ in range(15):
        heads, width = random.randint(1, 4), random.randint(2, 20)
        # few channels may have a spread of almost nothing
        shape = (random.randint(1, 6), random.randint(1, 90), random.randint(12, 40), heads, width)
        shape += (random.randint(1, 11), random.randint(1, 11))
        tensors, heads = draw(*shape, seed=random.randint(0, 999))
        check(tensors, heads, impl, f"seed {seed}: {shape}", random.choice([0.0, 0.1]))


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "from bertkernels.ops.dynamic_conv_block import dynamic_conv_block_op\n"
        "seed = torch.tensor([12345])\n"
        "shapes = ((24, 16), (24, 16), (24, 24), (15, 24), (16, 24))\n"
        "weights = [torch.randn(*s) * s[1] ** -0.5 for s in shapes] + [torch.randn(s[0]) for s in shapes]\n"
        "inputs = [torch.randn(3, 21, 16), torch.randn(24, 5), *weights, torch.randn(16), torch.randn(16)]\n"
        "inputs = [x.requires_grad_() for x in inputs]\n"
        "options = (None, seed, 3, 1e-12, 0.5, True)\n"
        "outs = [dynamic_conv_block_op(*inputs, *options, i)[0] for i in ('cpu', 'reference')]\n"
        "grads = [torch.autograd.grad(o, inputs, torch.ones_like(o)) for o in outs]\n"
        "for a, b in zip((outs[0], *grads[0]), (outs[1], *grads[1])):\n"
        "  torch.testing.assert_close(a, b, rtol=5e-5, atol=2e-4)\n"
    )
    run_with_instruction_set("dynamic_conv_block", isa, code)


def broken():
    (x, depthwise, *rest), heads = draw(2, 6, 16, 2, 4, 3, 3)
    weights, biases, (weight, bias) = rest[:5], rest[5:10], rest[10:]
    good = dict(x=x, depthwise=depthwise, weights=weights, biases=biases, weight=weight, bias=bias, heads=heads)
    yield "weights and biases must be", {**good, "weights": weights[:4]}, {}
    yield "gate's weight", {**good, "weights": [weights[0], weights[1][:-1], *weights[2:]]}, {}
    yield "kernel's 6 rows", {**good, "heads": 4}, {}
    yield "output's bias", {**good, "biases": [*biases[:4], biases[4][:-1]]}, {}
    yield "value's bias must be", {**good, "biases": [None, *biases[1:]]}, {}
    yield "depthwise_weight", {**good, "depthwise": depthwise[:-1]}, {}
    yield "depthwise_weight's 0 taps", {**good, "depthwise": depthwise[:, :0]}, {}
    yield "norm_weight", {**good, "weight": weight[:-1]}, {}
    yield "norm_bias", {**good, "bias": None}, {}
    yield "without cu_seqlens", {**good, "x": x[0]}, {}
    yield "int32", {**good, "x": x[0]}, {"cu_seqlens": torch.tensor([0, 6])}
    yield "float64", {**good, "depthwise": depthwise.double()}, {}
    for dropout_p in (1.0, -0.1, float("nan")):
        yield "dropout_p must be from 0 to below 1", good, {"dropout_p": dropout_p}


@pytest.mark.parametrize("message, arguments, options", [*broken()])
def test_bad_input(message, arguments, options):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.dynamic_conv_block(*arguments.values(), **options)


def test_autocast_mixes_no_dtypes_unseen():
    tensors, heads = draw(2, 6, 16, 2, 4, 3, 3)
    tensors[2] = tensors[2].bfloat16()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="one dtype"):
        in_lists(ops.dynamic_conv_block)(*tensors, heads=heads)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("starts", [[0, 7], [1, 6], [0, 4, 3, 6], [0, -1, 6]])
@pytest.mark.parametrize("keep", [False, True])
def test_contents_of_cu_seqlens_are_checked(device, impl, starts, keep):
    (x, *weights), heads = draw(1, 6, 16, 2, 4, 3, 3)
    starts = torch.tensor(starts, dtype=torch.int32)
    with pytest.raises((ValueError, RuntimeError), match="cu_seqlens"):
        dynamic_conv_block_op(x[0], *weights, starts, None, heads, 1e-12, 0.0, keep, impl)
