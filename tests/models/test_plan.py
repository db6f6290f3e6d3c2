import random

import pytest

from bertkernels.errors import InputError
from bertkernels.models.frame_options import FRAME_OPTIONS
from bertkernels.models.kinds import KINDS
from bertkernels.models.plan import MAX_DEPTH, MAX_SUBLAYERS, BlockSpec, Plan, SublayerSpec, parse_plan


def block(*kinds):
    return BlockSpec(tuple(SublayerSpec(kind) for kind in kinds))


@pytest.mark.parametrize(
    "text, blocks",
    [
        ("attention", [block("attention")]),
        ("attention ffn", [block("attention"), block("ffn")]),
        ("(attention ffn)", [block("attention", "ffn")]),
        ("(attention)", [block("attention")]),
        ("2*(mixed ffn)", 2 * [block("mixed", "ffn")]),
        ("3*ffn", 3 * [block("ffn")]),
        ("2 * ( mixed\n ffn )", 2 * [block("mixed", "ffn")]),
        ("2*(mixed ffn) attention", [*2 * [block("mixed", "ffn")], block("attention")]),
        ("2*((mixed ffn) attention)", 2 * [block("mixed", "ffn"), block("attention")]),
        ("2*(2*attention ffn)", 2 * [block("attention"), block("attention"), block("ffn")]),
        ("2*((mixed ffn))", 2 * [block("mixed", "ffn")]),
        ("(1*attention ffn)", [block("attention"), block("ffn")]),
    ],
)
def test_reads_blocks(text, blocks):
    assert parse_plan(text) == Plan(tuple(blocks))


def test_reads_options():
    plan = parse_plan(
        "mixed[kernel=5, head_ratio=4] ffn[groups=2,width=64] mixed[head_ratio=1.5] mixed[head_ratio=2.0]"
    )
    specs = [block.sublayers[0] for block in plan.blocks]
    assert specs[0] == SublayerSpec("mixed", (("head_ratio", 4), ("kernel", 5)))
    assert specs[0] == SublayerSpec("mixed", {"kernel": 5, "head_ratio": 4})
    assert specs[1].options == (("groups", 2), ("width", 64))
    assert specs[2].options == (("head_ratio", 1.5),)
    assert repr(specs[3].options) == "(('head_ratio', 2),)"


def test_tells_a_frames_options_from_its_functions():
    (block,) = parse_plan("ffn[norm=inner, groups=2, residual=gated]").blocks
    assert block.sublayers[0].function_options == {"groups": 2, "norm": "inner"}
    assert block.sublayers[0].frame_options == {"norm": "inner", "residual": "gated"}


@pytest.mark.parametrize(
    "text, normal",
    [
        ("(mixed  ffn)(mixed ffn) (mixed ffn)", "3*(mixed ffn)"),
        ("2*(mixed ffn) 1*(mixed ffn) attention attention", "3*(mixed ffn) 2*attention"),
        ("mixed[kernel=5,head_ratio=4]", "mixed[head_ratio=4, kernel=5]"),
        ("2*(attention 2*ffn)", "attention 2*ffn attention 2*ffn"),
        ("(ffn)", "ffn"),
    ],
)
def test_normal_form(text, normal):
    assert str(parse_plan(text)) == normal


def random_plan(rng: random.Random) -> Plan:
    values = {int: [1, 2, 9], float: [0.5, 2, 4 / 3, 1e-7], str: ["x", "linear(gelu(linear(x, w1)), w2)"]}

    def sublayer():
        kind = rng.choice(sorted(KINDS))
        options = {**FRAME_OPTIONS, **KINDS[kind].options}
        chosen = rng.sample(sorted(options), rng.randint(0, len(options)))
        return SublayerSpec(kind, {name: rng.choice(values.get(options[name], options[name])) for name in chosen})

    blocks = []
    for _ in range(rng.randint(1, 6)):
        one = BlockSpec(tuple(sublayer() for _ in range(rng.randint(1, 3))))
        blocks += rng.randint(1, 3) * [one]
    return Plan(tuple(blocks))


@pytest.mark.parametrize("seed", range(40))
def test_normal_form_reads_back(seed):
    plan = random_plan(random.Random(seed))
    assert parse_plan(str(plan)) == plan
    assert str(parse_plan(str(plan))) == str(plan)


@pytest.mark.parametrize(
    "text, message, character",
    [
        ("", "expected a sub-layer", 1),
        ("   ", "expected a sub-layer", 1),
        ("12*", "expected a sub-layer or '(', got the end", 4),
        ("12 attention", "expected '*', got 'attention'", 4),
        ("2*3*ffn", "expected a sub-layer or '(', got '3'", 3),
        ("(attention ffn", "expected ')', got the end", 15),
        ("attention ffn)", "expected a sub-layer or '(', got ')'", 14),
        ("2*()", "expected a sub-layer or '(', got ')'", 4),
        ("12*(atention ffn)", "unknown sub-layer 'atention', did you mean 'attention'?", 5),
        (
            "zzz",
            "unknown sub-layer 'zzz'; known: attention, dynamic_conv, expression_ffn, ffn, linear_attention, mixed",
            1,
        ),
        ("mixed[kernal=9]", "mixed has no option 'kernal', did you mean 'kernel'?", 7),
        ("ffn[residul=none]", "ffn has no option 'residul', did you mean 'residual'?", 5),
        ("ffn[residual=gate]", "ffn[residual] must be one of gated, weighted, scaled, none, got gate", 14),
        ("ffn[residual=1]", "expected one of gated, weighted, scaled, none, got '1'", 14),
        ("attention[norm=inner]", "attention[norm] must be one of output, got inner", 16),
        ("ffn[groups=0]", "ffn[groups] must be a whole number from 1, got 0", 12),
        ("ffn[groups=1.5]", "ffn[groups] must be a whole number from 1, got 1.5", 12),
        ("mixed[head_ratio=0]", "mixed[head_ratio] must be a number above 0, got 0", 18),
        ("ffn[groups=-2]", "unexpected character '-'", 12),
        ("ffn[groups=two]", "expected a number, got 'two'", 12),
        ("ffn[groups=2, groups=2]", "option 'groups' is given twice", 15),
        ("ffn[]", "expected an option of ffn, got ']'", 5),
        ("ffn[groups=2", "expected ']', got the end", 13),
        ("ffn[groups 2]", "expected '=', got '2'", 12),
        ("0*ffn", "a repeat must be a whole number from 1, got 0", 1),
        ("1.5*ffn", "a repeat must be a whole number from 1, got 1.5", 1),
        ("attention; ffn", "unexpected character ';'", 10),
        ("１２*ffn", "unexpected character '１'", 1),
        ("10001*ffn", "more than 10,000 sub-layers", 1),
        ("2*(101*(100*ffn))", "more than 10,000 sub-layers", 4),
        ("999999999*(999999999*ffn)", "more than 10,000 sub-layers", 12),
        ("ffn[groups=1e10]", "ffn[groups] must be at most 999,999,999", 12),
        ("mixed[head_ratio=1e999]", "mixed[head_ratio] must be a number above 0, got inf", 18),
        ("9999999999*ffn", "the number is too large", 1),
        ("__import__('os')", 'unexpected character "\'"', 12),
        ("expression_ffn[expression=]", "expected an expression, got ']'", 27),
        ("expression_ffn[expression=2]", "expected an expression, got '2'", 27),
        ("expression_ffn[expression=add(x=2)]", "expected ',' or ')', got '='", 32),
        ("expression_ffn[expression=linear(geul(x), w1)]", "unknown function 'geul', did you mean 'gelu'?", 34),
        ("expression_ffn[expression=gelu(x]", "expected ',' or ')', got ']'", 33),
        ("expression_ffn[expression=linear5_1(x, w1)]", "linear<S>_<R> takes S and R from 1 to 4", 27),
        ("expression_ffn[expression=linear2_1(x, w1), stack=3]", "stack=3 contradicts the names", 15),
    ],
)
def test_errors_say_where(text, message, character):
    with pytest.raises(InputError) as error:
        parse_plan(text)
    first, quoted, caret = str(error.value).split("\n")
    assert message in first
    assert first.endswith(f"(character {character})")
    assert quoted == "  " + text and caret == " " * (character + 1) + "^"


def test_error_in_a_long_plan_quotes_the_part_around_it():
    text = 200 * "attention\n" + "atention " + 200 * "ffn "
    with pytest.raises(InputError) as error:
        parse_plan(text)
    _, quoted, caret = str(error.value).split("\n")
    assert len(quoted) < 80 and quoted[caret.index("^") :].startswith("atention ")


def test_deep_nesting_is_an_error_and_not_a_crash():
    assert parse_plan(MAX_DEPTH * "(" + "ffn" + MAX_DEPTH * ")") == Plan((block("ffn"),))
    with pytest.raises(InputError, match="nested deeper"):
        parse_plan(100_000 * "(" + "ffn" + 100_000 * ")")


@pytest.mark.parametrize("value", [None, 12, ["attention"]])
def test_only_text_is_a_plan(value):
    with pytest.raises(InputError, match="plan must be text"):
        parse_plan(value)


@pytest.mark.parametrize(
    "text, normal",
    [
        (
            "expression_ffn[stack=2,expression=tanh( linear(gelu(linear(x,wb1)),wb2) )]",
            "expression_ffn[expression=tanh(linear(gelu(linear(x, w1)), w2)), stack=2]",
        ),
        (
            "2*(attention expression_ffn[expression=linear4_2(gelu(linear4_2(x,wb1)),wb2)])",
            "2*(attention expression_ffn[expression=linear(gelu(linear(x, w1)), w2), ratio=2, stack=4])",
        ),
        (
            "expression_ffn[expression=linear2_1(relu(linear2_1(x,wb1)),wb2), ratio=1]",
            "expression_ffn[expression=linear(relu(linear(x, w1)), w2), ratio=1, stack=2]",
        ),
    ],
)
def test_expressions_in_either_spelling(text, normal):
    assert str(parse_plan(text)) == normal
    assert parse_plan(normal) == parse_plan(text)


def test_specs_check_what_they_are_made_of():
    with pytest.raises(InputError, match="unknown sub-layer"):
        SublayerSpec("conv")
    with pytest.raises(InputError, match="no option"):
        SublayerSpec("ffn", {"kernel": 3})
    with pytest.raises(InputError, match="whole number"):
        SublayerSpec("ffn", {"groups": True})
    with pytest.raises(InputError, match="whole number"):
        SublayerSpec("ffn", {"groups": float("nan")})
    with pytest.raises(InputError, match="at least one sub-layer"):
        BlockSpec(())
    with pytest.raises(InputError, match="at least one block"):
        Plan(())
    with pytest.raises(InputError, match="10,001"):
        Plan(tuple((MAX_SUBLAYERS + 1) * [block("ffn")]))
