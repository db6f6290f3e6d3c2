"""expression_block on every implementation that can run here."""

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import ACTIVATIONS
from bertkernels.ops.expression_block import expression_block_op, expression_block_reference
from tests.ops.budget import assert_within_budget
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import misaligned, poisoned_memory, sliced, swapped
from tests.ops.sweep import seeded
from tests.ops.targets import compiled_targets, implementations_on_cpu, targets

TARGETS = targets("expression_block", kernels=("cpu",))
COMPILED = compiled_targets("expression_block", kernels=("cpu",))
# shape, F, sub-layers
SHAPES = [((2, 35, 64), 128, 1), ((70, 48), 24, 3), ((1, 24), 40, 2), ((600, 36), 36, 2), ((20,), 7, 1), ((9, 5), 3, 1)]
PROGRAMS = [
    {},
    {"before": "x x tanh max"},
    {"between": "y", "after": "y elu"},
    {"between": "y relu", "after": "y x mul sigmoid x add"},
    {"between": "y x x mul x add tanh leaky_relu add swish", "after": "x y max"},
]


def draw(shape, hidden, layers=1, dtype=torch.float32, seed=0):
    """x, weights, biases, and the norms' weights and biases."""
    generator = torch.Generator().manual_seed(seed)
    width = shape[-1]

    def normal(*size, std=1.0):
        return (torch.randn(size, generator=generator, dtype=torch.float64) * std).to(dtype)

    shapes = [(hidden, width), (width, hidden)] * layers
    weights = [normal(*each, std=each[1] ** -0.5) for each in shapes]
    biases = [normal(each[0]) for each in shapes]
    return normal(*shape), weights, biases, [normal(width) for _ in range(2 * layers)]


def cast(problem, dtype):
    x, *lists = problem
    return x.to(dtype), *([tensor.to(dtype) for tensor in each] for each in lists)


def eager(problem, before="x", between="y gelu_tanh", after="y", widths="crop"):
    """What plain torch operations of the same dtype give; programs are read as stacks, apart from the op's own code."""
    binary = {"add": torch.add, "mul": torch.mul, "max": torch.maximum}
    neutral = {"add": 0.0, "mul": 1.0, "max": -1e-10 if widths == "pad_published" else -torch.inf}

    def run(program, **rows):
        stack = []
        for word in program.split():
            if word in rows:
                stack.append(rows[word])
            elif word in binary:
                pair = [stack.pop(), stack.pop()]
                width = (min if widths == "crop" else max)(each.shape[-1] for each in pair)
                fill = neutral[word]
                grown = (torch.nn.functional.pad(each, (0, width - each.shape[-1]), value=fill) for each in pair)
                stack.append(binary[word](*grown))
            elif word == "gelu_tanh":
                stack.append(torch.nn.functional.gelu(stack.pop(), approximate="tanh"))
            elif word == "gelu":
                stack.append(torch.nn.functional.gelu(stack.pop()))
            else:
                name = {"swish": "silu"}.get(word, word)
                stack.append(getattr(torch.nn.functional, name)(stack.pop()))
        return stack[-1]

    x, weights, biases, norms = problem
    linear = torch.nn.functional.linear
    for i in range(0, len(weights), 2):
        hidden = run(between, x=x, y=linear(run(before, x=x), weights[i], biases[i]))
        result = run(after, x=x, y=linear(hidden, weights[i + 1], biases[i + 1]))
        x = torch.nn.functional.layer_norm(x + result, norms[i].shape, norms[i], norms[i + 1], 1e-12)
    return x


def check(problem, impl, what, **options):
    out = ops.expression_block(*problem, **options, impl=impl)
    assert out.is_contiguous() and out.dtype == problem[0].dtype
    want = expression_block_reference(*cast(problem, torch.float64), **options)
    assert_within_budget(["out"], [out], [want], [eager(problem, **options)], what, roundings=16)
    return out


def fits(options, shape, hidden):
    """Whether programs of x and y yield what the layers take."""
    crosses = "x" in options.get("between", "y").split()
    return not crosses or (hidden <= shape[-1] if options.get("widths", "crop") == "crop" else hidden >= shape[-1])


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("options", PROGRAMS, ids=str)
@pytest.mark.parametrize("widths", ["crop", "pad", "pad_published"])
def test_against_fp64(device, impl, options, widths):
    options = {**options, "widths": widths}
    for shape, hidden, layers in SHAPES:
        if fits(options, shape, hidden):
            check(draw(shape, hidden, layers), impl, f"{shape} {hidden} {layers} {options}", **options)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name])
def test_every_activation_everywhere(device, impl, activation):
    options = {"before": f"x {activation}", "between": f"y {activation}", "after": f"y x {activation} add"}
    check(draw((5, 7, 40), 24), impl, activation, **options)


@pytest.mark.parametrize("options", PROGRAMS, ids=str)
@pytest.mark.parametrize("widths", ["crop", "pad", "pad_published"])
def test_the_reference_is_the_formula_in_plain_torch(options, widths):
    options = {**options, "widths": widths}
    for shape, hidden, layers in SHAPES:
        if fits(options, shape, hidden):
            problem = cast(draw(shape, hidden, layers), torch.float64)
            got, want = expression_block_reference(*problem, **options), eager(problem, **options)
            torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("widths", ["pad", "pad_published"])
def test_what_lies_beyond_the_narrower_row(device, impl, widths):
    """Below -1e-10 the published maximum cuts off what stands alone."""
    problem = draw((6, 20), 50)
    for word in ("max", "mul", "add"):
        check(problem, impl, word, between=f"y x {word}", widths=widths)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_not_a_number_stays_in_its_row(device, impl):
    x, *rest = draw((6, 20), 20)
    x[2, 3] = torch.nan
    out = ops.expression_block(x, *rest, before="x x tanh max", between="y x max relu", impl=impl)
    assert out[2].isnan().all() and not out[[0, 1, 3, 4, 5]].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_run_on_the_reference(dtype):
    check(draw((4, 32), 64, dtype=dtype), None, str(dtype), after="y tanh")


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_rearranged_memory(device, impl, rearrange):
    x, weights, biases, norms = draw((6, 5, 48), 64, 2)
    options = {"before": "x tanh", "after": "y x mul", "impl": impl}
    got = ops.expression_block(rearrange(x), [sliced(weight) for weight in weights], biases, norms, **options)
    want = ops.expression_block(x, weights, biases, norms, **options)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written_and_the_same_again(device, impl):
    problem = draw((900, 40), 96, 2)
    options = {"before": "x tanh", "between": "y gelu", "after": "y x max sigmoid", "impl": impl}
    first = ops.expression_block(*problem, **options)
    with poisoned_memory():
        assert torch.equal(ops.expression_block(*problem, **options), first)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads(device, impl, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rows in (1, 5, 130, 1300):
            options = {"before": "x x tanh max", "between": "y x x mul add relu", "after": "y tanh"}
            check(draw((rows, 40), 32, 2), impl, f"{rows} rows, {threads} threads", **options)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_several_in_a_row_are_one_after_the_other_to_the_bit(device, impl):
    x, weights, biases, norms = draw((700, 40), 32, 3)
    out = x
    for i in range(0, 6, 2):
        layer = slice(i, i + 2)
        out = ops.expression_block(out, weights[layer], biases[layer], norms[layer], after="y tanh", impl=impl)
    assert torch.equal(ops.expression_block(x, weights, biases, norms, after="y tanh", impl=impl), out)


@pytest.mark.parametrize("impl", implementations_on_cpu("expression_block", kernels=("cpu",)))
def test_empty(impl):
    for rows in (0, 2):
        x = torch.empty(rows, 0, 8)
        assert ops.expression_block(x, *draw((1, 8), 6)[1:], impl=impl).shape == x.shape


def test_opcheck_and_compilation():
    problem = draw((2, 5, 16), 24)
    torch.library.opcheck(expression_block_op.overload, (*problem, "x tanh", "y gelu", "y elu", "crop", 1e-12, ""))
    torch._dynamo.reset()
    compiled = torch.compile(ops.expression_block, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for i, rows in enumerate((7, 9, 30)):
            case = [draw((rows, 16), 24)[0], *problem[1:]]
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                got = compiled(*case, after="y tanh")
            torch.testing.assert_close(got, ops.expression_block(*case, after="y tanh"))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    _, random = seeded()
    for _ in range(30):
        shape, hidden = (random.randint(1, 500), random.randint(3, 90)), random.randint(1, 90)
        options = {**random.choice(PROGRAMS), "widths": random.choice(["crop", "pad", "pad_published"])}
        if fits(options, shape, hidden):
            problem = draw(shape, hidden, random.randint(1, 3), seed=random.randint(0, 999))
            check(problem, impl, f"{shape} {hidden} {options}", **options)


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "from tests.ops.test_expression_block import PROGRAMS, draw\n"
        "for options in PROGRAMS:\n"
        "  for shape, hidden in (((9, 37), 20), ((450, 8), 3), ((3, 40), 75)):\n"
        "    options = {**options, 'widths': 'crop' if hidden < shape[-1] else 'pad'}\n"
        "    out = [ops.expression_block(*draw(shape, hidden, 2), **options, impl=i) for i in ('cpu', 'reference')]\n"
        "    torch.testing.assert_close(*out, rtol=2e-5, atol=2e-5)\n"
    )
    run_with_instruction_set("expression_block", isa, code)


def broken():
    x, weights, biases, norms = draw((4, 8), 12)
    good = (x, weights, biases, norms)
    yield "two of each a sub-layer, got 1, 2 and 2", (x, weights[:1], biases, norms), {}
    yield "two of each a sub-layer, got 0, 0 and 0", (x, [], [], []), {}
    yield "down's weight", (x, [weights[0], weights[0]], biases, norms), {}
    yield "up's weight", (x, [torch.randn(12, 9), weights[1]], biases, norms), {}
    yield "up's bias", (x, weights, [biases[1]] * 2, norms), {}
    yield "the norm's bias", (x, weights, biases, [norms[0], norms[1][:7]]), {}
    yield "contiguous", (x, [torch.randn(8, 12).T, weights[1]], biases, norms), {}
    yield "float64", (x, [weights[0], weights[1].double()], biases, norms), {}
    yield "must be a tensor", (x.tolist(), *good[1:]), {}
    yield "before knows the words x, add, .* got 'y'", good, {"before": "y"}
    yield "between knows the words x, y, .* got 'mish'", good, {"between": "y mish"}
    yield "add takes 2 values and there are 1", good, {"after": "y add"}
    yield "after must end with one value, and 'x y' ends with 2", good, {"after": "x y"}
    yield "before must end with one value, and '' ends with 0", good, {"before": ""}
    yield "y must stand once in after", good, {"after": "x tanh"}
    yield "y must stand once in after", good, {"after": "y y add"}
    yield "keeps more than 16 values", good, {"before": "x " * 17 + "add " * 16}
    yield "between must yield 12 channels, and 'y x add' yields 8", good, {"between": "y x add"}
    yield "widths must be one of crop, pad, pad_published, got 'wrap'", good, {"widths": "wrap"}


@pytest.mark.parametrize("message, arguments, options", [*broken()])
def test_bad_input(message, arguments, options):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.expression_block(*arguments, **options)


def test_it_says_so_where_gradients_or_another_dtype_are_wanted():
    x, *rest = draw((4, 8), 12)
    with pytest.raises(RuntimeError, match="no gradients"):
        ops.expression_block(x.requires_grad_(), *rest)
    if ops.can_run("expression_block", "cpu", "cpu")[0]:
        with pytest.raises(RuntimeError, match="float32 only"):
            ops.expression_block(*cast((x.detach(), *rest), torch.float64), impl="cpu")
