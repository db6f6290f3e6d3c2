"""Plans: the text that says which sub-layers an encoder is made of.

    plan     := item+
    item     := [N "*"] ( block | "(" plan ")" )
    block    := "(" sublayer+ ")" | sublayer
    sublayer := kind [ "[" option "=" value ("," option "=" value)* "]" ]        value := number | name | expression

`12*(attention ffn)` is BERT-base: twelve blocks of two sub-layers. Parentheses around nothing but sub-layers make one
block of them; around anything else they only group: `2*(3*(mixed ffn) attention)`. The kinds and their options are in
`kinds.py`; the options that all kinds have, as in `attention[residual=none]`, in `frame_options.py`; expressions, as in
`expression_ffn[expression=tanh(linear(gelu(linear(x, w1)), w2)), stack=2]`, are `bertkernels.nn.expressions`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from bertkernels.errors import InputError, point_at
from bertkernels.nn.expressions import ExpressionError, parse_expression

from .expression_options import Value, unfold
from .frame_options import FRAME_OPTIONS
from .kinds import check_option, find_kind, option_type

MAX_SUBLAYERS = 10_000
MAX_DEPTH = 50
_MAX_DIGITS = 9  # before the point: Python refuses to read whole numbers of thousands of digits


@dataclass(frozen=True)
class SublayerSpec:
    """One sub-layer: its kind and those options that the plan sets, sorted by name.

    Options are given as a mapping or as pairs. What names in an expression carry, as `linear2_1` does, becomes options
    of their own. Raises InputError for kinds, options and values that do not exist.
    """

    kind: str
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        find_kind(self.kind)
        pairs: Iterable = self.options.items() if isinstance(self.options, Mapping) else self.options
        checked = unfold({name: check_option(self.kind, name, value) for name, value in pairs})
        object.__setattr__(self, "options", tuple(sorted(checked.items())))

    @property
    def stack(self) -> int:
        """How many of it stand in a row."""
        return dict(self.options).get("stack", 1)

    @property
    def function_options(self) -> dict[str, Value]:
        """Those of the kind itself."""
        own = find_kind(self.kind).options
        return {name: value for name, value in self.options if name in own}

    @property
    def frame_options(self) -> dict[str, str]:
        """Those of the frame that it stands in."""
        return {name: value for name, value in self.options if name in FRAME_OPTIONS}

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.kind}[{options}]" if options else self.kind


@dataclass(frozen=True)
class BlockSpec:
    """The sub-layers of one block, in order."""

    sublayers: tuple[SublayerSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sublayers", tuple(self.sublayers))
        if not self.sublayers:
            raise InputError("a block needs at least one sub-layer")

    def __str__(self) -> str:
        text = " ".join(map(str, self.sublayers))
        return text if len(self.sublayers) == 1 else f"({text})"


@dataclass(frozen=True)
class Plan:
    """The blocks of an encoder, in order. `str(plan)` is its normal form: `parse_plan(str(plan)) == plan`."""

    blocks: tuple[BlockSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.blocks:
            raise InputError("a plan needs at least one block")
        if _count(self.blocks) > MAX_SUBLAYERS:
            raise InputError(f"a plan may have {MAX_SUBLAYERS:,} sub-layers, got {_count(self.blocks):,}")

    def __str__(self) -> str:
        runs = ((block, len(list(run))) for block, run in groupby(self.blocks))
        return " ".join(f"{length}*{block}" if length > 1 else str(block) for block, length in runs)


def parse_plan(text: str) -> Plan:
    """Reads a plan.

    Raises:
        InputError: naming the character where the text stops making sense, with the text and a caret below it.
    """
    if not isinstance(text, str):
        raise InputError(f'plan must be text such as "12*(attention ffn)", got {type(text).__name__}')
    return _parse(text)


@lru_cache(maxsize=256)
def _parse(text: str) -> Plan:
    return _Parser(text).plan()


class _Token(NamedTuple):
    kind: str  # "name", "number", a mark itself, or "end"
    text: str
    position: int


_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
    r"|(?P<mark>[()\[\]*=,]))"
)


class _Parser:
    def __init__(self, text: str):
        self.text = text
        self.tokens = list(self._tokens())
        self.index = 0

    def plan(self) -> Plan:
        blocks, _ = self._items(depth=0)
        if self._next.kind != "end":
            raise self._expected("a sub-layer or '('")
        return Plan(tuple(blocks))

    def _items(self, depth: int) -> tuple[list[BlockSpec], bool]:
        """Blocks up to a ")" or the end, and whether all of them were written as bare sub-layers."""
        blocks: list[BlockSpec] = []
        bare = True
        sublayers = 0
        if depth > MAX_DEPTH:
            raise self._error(f"parentheses are nested deeper than {MAX_DEPTH}", self._next)
        while self._next.kind not in (")", "end"):
            start = self._next
            repeat = 1
            if start.kind == "number":
                repeat = self._repeat()
            item = self._item(depth)
            bare = bare and start.kind == "name"
            sublayers += repeat * _count(item)
            if sublayers > MAX_SUBLAYERS:
                raise self._error(f"the plan has more than {MAX_SUBLAYERS:,} sub-layers", start)
            blocks += repeat * item
        if not blocks:
            raise self._expected("a sub-layer or '('")
        return blocks, bare

    def _repeat(self) -> int:
        token = self._take("number")
        if not token.text.isdigit() or int(token.text) < 1:
            raise self._error(f"a repeat must be a whole number from 1, got {token.text}", token)
        self._take("*")
        return int(token.text)

    def _item(self, depth: int) -> list[BlockSpec]:
        if self._next.kind == "name":
            return [BlockSpec((self._sublayer(),))]
        if self._next.kind != "(":
            raise self._expected("a sub-layer or '('")
        self._take("(")
        blocks, bare = self._items(depth + 1)
        self._take(")")
        return [BlockSpec(tuple(block.sublayers[0] for block in blocks))] if bare else blocks

    def _sublayer(self) -> SublayerSpec:
        kind = self._take("name")
        self._checked(kind, find_kind, kind.text)
        options: dict[str, Value] = {}
        start = self._next
        if self._next.kind == "[":
            self._take("[")
            self._option(kind.text, options)
            while self._next.kind == ",":
                self._take(",")
                self._option(kind.text, options)
            self._take("]")
        return self._checked(start, SublayerSpec, kind.text, tuple(options.items()))

    def _option(self, kind: str, options: dict[str, Value]) -> None:
        name = self._take("name", f"an option of {kind}")
        if name.text in options:
            raise self._error(f"option {name.text!r} is given twice", name)
        self._take("=")
        taken = option_type(kind, name.text)
        if taken is None:
            self._checked(name, check_option, kind, name.text, None)  # raises
        if taken is str:
            options[name.text] = self._expression()
            return
        if isinstance(taken, tuple):
            value = self._take("name", f"one of {', '.join(taken)}")
            options[name.text] = self._checked(value, check_option, kind, name.text, value.text)
            return
        value = self._take("number")
        number = int(value.text) if value.text.isdigit() else float(value.text)
        options[name.text] = self._checked(value, check_option, kind, name.text, number)

    def _expression(self) -> str:
        """What stands from here to the comma or bracket that ends the option."""
        start = self._take("name", "an expression")
        end, depth = start, 0
        while depth or self._next.kind == "(":
            end = self._next
            if end.kind not in ("name", ",", "(", ")"):
                raise self._expected("',' or ')'")
            depth += {"(": 1, ")": -1}.get(end.kind, 0)
            self.index += 1
        try:
            return str(parse_expression(self.text[start.position : end.position + len(end.text)]))
        except ExpressionError as error:
            raise self._error(error.message, start._replace(position=start.position + error.position)) from None

    @property
    def _next(self) -> _Token:
        return self.tokens[self.index]

    def _take(self, kind: str, what: str | None = None) -> _Token:
        token = self._next
        if token.kind != kind:
            raise self._expected(what or (f"a {kind}" if kind.isalpha() else f"'{kind}'"))
        self.index += 1
        return token

    def _checked(self, token: _Token, check, *arguments):
        try:
            return check(*arguments)
        except InputError as error:
            raise self._error(str(error), token) from None

    def _expected(self, what: str) -> InputError:
        token = self._next
        got = "the end" if token.kind == "end" else repr(token.text)
        return self._error(f"expected {what}, got {got}", token)

    def _error(self, message: str, token: _Token) -> InputError:
        return InputError(f"plan: {message} {point_at(self.text, token.position)}")

    def _tokens(self) -> Iterable[_Token]:
        position, end = 0, len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None:
                position += len(self.text[position:]) - len(self.text[position:].lstrip())
                character = _Token("character", self.text[position], position)
                raise self._error(f"unexpected character {character.text!r}", character)
            kind = match.lastgroup
            token = _Token(match[kind] if kind == "mark" else kind, match[kind], match.start(kind))
            if kind == "number" and len(token.text.partition(".")[0]) > _MAX_DIGITS:
                raise self._error("the number is too large", token)
            yield token
            position = match.end()
        yield _Token("end", "", end)


def _count(blocks: Iterable[BlockSpec]) -> int:
    return sum(len(block.sublayers) for block in blocks)
