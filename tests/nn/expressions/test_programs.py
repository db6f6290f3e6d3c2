"""Expressions as programs around two products."""

import pytest

from bertkernels.nn.expressions import parse_expression, row_programs


@pytest.mark.parametrize(
    "expression, programs",
    [
        ("tanh(linear(gelu(linear(x, w1)), w2))", ("x", "y gelu_tanh", "y tanh")),
        ("linear(gelu(linear(max(x, tanh(x)), w1)), w2)", ("x x tanh max", "y gelu_tanh", "y")),
        ("linear(relu(mul(linear(x, w1), x)), w2)", ("x", "y x mul relu", "y")),
        (
            "add(mul(elu(x), linear(max(x, swish(linear(x, w1))), w2)), x)",
            ("x", "x y swish max", "x elu y mul x add"),
        ),
        ("linear(linear(x, w1), w2)", ("x", "y", "y")),
        ("add(linear(x, w1), linear(x, w2))", None),
        ("linear(linear(x, w2), w1)", None),
        ("tanh(linear(x, w1))", None),
        ("linear(add(linear(x, w1), linear(x, w1)), w2)", None),
    ],
)
def test_programs(expression, programs):
    assert row_programs(parse_expression(expression)) == programs
