"""Small elementwise programs on the rows around the products of `expression_block`, as text in reverse Polish order.

`"x"` is the sub-layer's input and `"y"` the result of the layer below, bias included; a name of `bias_activation`'s is
applied to what was computed last; `"add"`, `"mul"` and `"max"` combine the last two. `"x tanh y mul"` is tanh(x)·y.
"""

import functools

import torch

from .bias_activation import ACTIVATIONS, activation_number

# Numbers of the compiled code (csrc/expression_block.h), where activations have their own.
_LEAVES = {"x": 100, "y": 101}
_COMBINATIONS = {"add": 102, "mul": 103, "max": 104}
WIDTHS = {"crop": 0, "pad": 1, "pad_published": 2}
_FUNCTIONS = {"add": torch.add, "mul": torch.mul, "max": torch.maximum}
_MOST_VALUES = 16  # that a program may keep at a time
_PUBLISHED_LOWEST = -1e-10  # surely -1e10 was meant


@functools.cache
def steps(program: str) -> tuple[int, ...]:
    """The program as the compiled code takes it."""
    numbers = _LEAVES | _COMBINATIONS
    return tuple(numbers[word] if word in numbers else activation_number(word) for word in program.split())


def output_width(op: str, name: str, program: str, x_width: int, y_width: int | None, widths: str) -> int:
    """Checks a program.

    Args:
        op, name: for messages: of the op and of its argument.
        x_width, y_width: of the rows that "x" and "y" stand for; None: there is no layer below.
        widths: one of `WIDTHS`.

    Returns:
        the width of what it computes.

    Raises:
        ValueError: it is no such program.
    """
    if widths not in WIDTHS:
        raise ValueError(f"{op}: widths must be one of {', '.join(WIDTHS)}, got {widths!r}")
    known = {"x": x_width} if y_width is None else {"x": x_width, "y": y_width}
    values: list[int] = []
    words = program.split()
    for word in words:
        takes = 2 if word in _COMBINATIONS else 0 if word in known else 1
        if word not in _COMBINATIONS and word not in known and (word not in ACTIVATIONS):
            names = ", ".join([*known, *_COMBINATIONS, *filter(None, ACTIVATIONS)])
            raise ValueError(f"{op}: {name} knows the words {names}; got {word!r}")
        if len(values) < takes:
            raise ValueError(f"{op}: {name}, {program!r}: {word} takes {takes} values and there are {len(values)}")
        arguments = [values.pop() for _ in range(takes)]
        values.append(known[word] if takes == 0 else (min if widths == "crop" else max)(arguments))
        if len(values) > _MOST_VALUES:
            raise ValueError(f"{op}: {name}, {program!r}, keeps more than {_MOST_VALUES} values at a time")
    if len(values) != 1:
        raise ValueError(f"{op}: {name} must end with one value, and {program!r} ends with {len(values)}")
    if y_width is not None and words.count("y") != 1:
        raise ValueError(f"{op}: y must stand once in {name}, got {program!r}")
    return values[0]


def run(program: str, x: torch.Tensor, y: torch.Tensor | None, widths: str) -> torch.Tensor:
    """What a program computes of x […, C] and y […, F], in plain torch operations."""
    values: list[torch.Tensor] = []
    for word in program.split():
        if word in _LEAVES:
            values.append(x if word == "x" else y)
        elif word in _COMBINATIONS:
            right, left = values.pop(), values.pop()
            values.append(combine(word, left, right, widths))
        else:
            values.append(ACTIVATIONS[word][0](values.pop()))
    return values[0]


def combine(name: str, left: torch.Tensor, right: torch.Tensor, widths: str = "crop") -> torch.Tensor:
    """add, mul or max of […, A] and […, B] → […, min(A, B)] with "crop", else […, max(A, B)].

    "pad" fills the narrower one up with what changes nothing, so the wider one's further channels come out as they are;
    with "pad_published" those of max are cut off at -1e-10.
    """
    if left.shape[-1] == right.shape[-1]:
        return _FUNCTIONS[name](left, right)
    narrow = min(left.shape[-1], right.shape[-1])
    out = _FUNCTIONS[name](left[..., :narrow], right[..., :narrow])
    if widths == "crop":
        return out
    rest = (left if left.shape[-1] > narrow else right)[..., narrow:]
    if name == "max" and widths == "pad_published":
        rest = rest.clamp(min=_PUBLISHED_LOWEST)
    return torch.cat([out, rest], -1)
