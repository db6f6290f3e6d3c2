"""Expressions read and printed in both spellings, and errors that say where."""

from random import Random

import pytest

from bertkernels.errors import InputError
from bertkernels.nn.expressions import (
    Binary,
    ExpressionError,
    Input,
    Linear,
    Unary,
    height,
    nodes,
    original_text,
    parse_expression,
    plain,
    random_expression,
)

PAIRS = [
    ("linear4_2", "tanh(linear4_2(gelu(linear4_2(x,wb1)),wb2))", "tanh(linear(gelu(linear(x, w1)), w2))"),
    (
        "linear2_2",
        "linear2_2(gelu(linear2_2(max(x,tanh(x)),wb1)),wb2)",
        "linear(gelu(linear(max(x, tanh(x)), w1)), w2)",
    ),
    ("linear1_2", "linear1_2(relu(mul(linear1_2(x,wb1),x)),wb2)", "linear(relu(mul(linear(x, w1), x)), w2)"),
]


def test_the_tree():
    x = Input()
    assert parse_expression(" add( linear2_1(x , wb1),\n max(x,swish(x))) ") == Binary(
        "add", Linear(x, 1, (2, 1)), Binary("max", x, Unary("swish", x))
    )
    assert parse_expression("linear(x, w2)") == parse_expression("linear(x,wb2)") == Linear(x, 2)


@pytest.mark.parametrize(("name", "original", "ours"), PAIRS)
def test_both_spellings(name, original, ours):
    tree = parse_expression(original)
    assert original_text(tree) == original and str(plain(tree)) == ours
    assert parse_expression(ours) == plain(tree)
    shape = int(name[6]), int(name[8])
    assert original_text(parse_expression(ours), shape) == original
    assert str(tree) == ours.replace("linear", name), "names that carry a shape keep it"


def test_positions_and_height():
    tree = parse_expression("tanh( linear(x, w1))")
    assert [node.position for node in nodes(tree)] == [0, 6, 13]
    assert [height(node) for node in nodes(tree)] == [2, 1, 0]


def test_ten_thousand_random_ones_read_back():
    generator = Random(0)
    seen = set()
    for _ in range(10_000):
        tree = random_expression(generator)
        shape = generator.randint(1, 4), generator.randint(1, 4)
        assert parse_expression(str(tree)) == tree
        assert plain(parse_expression(original_text(tree, shape))) == tree
        seen.add(str(tree))
    assert len(seen) > 3_000 and len({text.partition("(")[0] for text in seen}) == 11, "they are many and differ"


@pytest.mark.parametrize(
    ("text", "message", "character"),
    [
        ("", "expected x or a function, got the end", 1),
        ("linear(x, w1", "expected ')', got the end", 13),
        ("linear(x w1)", "expected ',', got 'w1'", 10),
        ("linear(x)", "expected ',', got ')'", 9),
        ("linear(x, x)", "expected w1 or w2 as the second argument of linear, got 'x'", 11),
        ("linear(x, w3)", "got 'w3'", 11),
        ("linear(w1, x)", "w1 is a weight, which only linear takes", 8),
        ("max(x, wb2)", "wb2 is a weight", 8),
        ("gelu(x, x)", "expected ')', got ','", 7),
        ("add(x)", "expected ',', got ')'", 6),
        ("geul(x)", "unknown function 'geul', did you mean 'gelu'?", 1),
        ("y", "unknown function 'y'; known: x, linear, add", 1),
        ("linear5_1(x, w1)", "linear<S>_<R> takes S and R from 1 to 4, got 'linear5_1'", 1),
        ("linear2_0(x, w1)", "takes S and R from 1 to 4", 1),
        ("linear2(x, w1)", "unknown function 'linear2', did you mean 'linear'?", 1),
        ("x x", "expected the end, got 'x'", 3),
        ("tanh(x) + x", "unexpected character '+'", 9),
        ("__import__('os')", 'unexpected character "\'"', 12),
        (200 * "tanh(" + "x" + 200 * ")", "nested deeper than 100", 506),
    ],
)
def test_errors_say_where(text, message, character):
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert message in str(caught.value) and f"(character {character})\n" in str(caught.value)
    assert caught.value.position == character - 1


def test_only_text_is_an_expression():
    with pytest.raises(InputError, match="must be text"):
        parse_expression(7)
