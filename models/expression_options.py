"""What `expression_ffn` takes in a plan, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bertkernels.errors import InputError
from bertkernels.nn.expression_ffn import PLAIN_FFN
from bertkernels.nn.expressions import (
    MOST,
    Binary,
    Linear,
    Unary,
    check_rules,
    node_widths,
    output_width,
    parse_expression,
    plain,
    shape_of,
)
from bertkernels.nn.expressions.rules import linears_alike

from .operations import Operations, linear

if TYPE_CHECKING:
    from .configuration import EncoderConfig

Value = int | float | str  # of an option


def expression_ffn(
    config: EncoderConfig, expression: str = PLAIN_FFN, ratio: int = 1, stack: int = 1
) -> dict[str, Any]:
    """A module's arguments. Raises InputError where an expression breaks a rule, or widths do not fit."""
    for name, value in (("ratio", ratio), ("stack", stack)):
        if value > MOST:
            raise InputError(f"expression_ffn[{name}] must be at most {MOST}, got {value}")
    width = config.intermediate_size // ratio
    if width < 1:
        raise InputError(
            f"expression_ffn[ratio={ratio}] leaves nothing of intermediate_size {config.intermediate_size}"
        )
    if config.expression_rules:
        check_rules(expression)
    output_width(expression, config.hidden_size, width, config.expression_widths, yields=config.hidden_size)
    return {
        "hidden_size": config.hidden_size,
        "intermediate_size": width,
        "expression": expression,
        "widths": config.expression_widths,
    }


def expression_ffn_operations(
    tokens: int, hidden_size: int, intermediate_size: int, expression: str, widths: str
) -> Operations:
    """What it does to one token; `tokens` of the sequence do not matter."""
    total = Operations()
    for node, width in node_widths(expression, hidden_size, intermediate_size, widths):
        if isinstance(node, Linear):
            total += (
                linear(hidden_size, intermediate_size) if node.weight == 1 else linear(intermediate_size, hidden_size)
            )
        elif isinstance(node, Unary):
            total += Operations(activations=width)
        elif isinstance(node, Binary):
            total += Operations(elements=width)
    return total


def unfold(options: dict[str, Value]) -> dict[str, Value]:
    """Options with what the names in an expression carry as `stack` and `ratio`; InputError where these contradict."""
    if "expression" not in options:
        return options
    tree = parse_expression(options["expression"])
    shape = shape_of(tree)
    broken = linears_alike(tree)
    if broken is not None:
        raise InputError(f"expression {tree}: {broken.message}")
    carried = {} if shape is None else dict(zip(("stack", "ratio"), shape, strict=True))
    for name, value in carried.items():
        if options.get(name, value) != value:
            raise InputError(f"{name}={options[name]} contradicts the names in {tree}, which say {value}")
    return options | carried | {"expression": str(plain(tree))}
