"""Reads expressions.

expression := "x" | activation "(" expression ")" | combination "(" expression "," expression ")"
            | linear "(" expression "," weight ")"
linear     := "linear" [ S "_" R ]        weight := "w1" | "w2" | "wb1" | "wb2"
"""

import re
from difflib import get_close_matches
from typing import NamedTuple

from bertkernels.errors import InputError, point_at

from .tree import ACTIVATIONS, COMBINATIONS, MOST, Binary, Input, Linear, Node, Shape, Unary

_MAX_DEPTH = 100
_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>[(),]))")
_LINEAR = re.compile(r"linear(?:(\d)_(\d))?")
_WEIGHT = re.compile(r"wb?([12])")


class ExpressionError(InputError):
    """What is wrong with an expression, and where: `message`, and `position` in its text from 0."""

    def __init__(self, message: str, text: str, position: int):
        super().__init__(f"expression: {message} {point_at(text, position)}")
        self.message = message
        self.position = position


def parse_expression(text: str) -> Node:
    """Reads an expression in either spelling, `linear(x, w1)` or the original's `linear2_1(x,wb1)`.

    Raises:
        ExpressionError: naming the character where the text stops making sense.
    """
    if not isinstance(text, str):
        raise InputError(f'an expression must be text such as "linear(gelu(linear(x, w1)), w2)", got {text!r}')
    parser = _Parser(text)
    tree = parser.tensor(0)
    parser.take("end", "the end")
    return tree


class _Token(NamedTuple):
    kind: str  # "name", a mark itself, or "end"
    text: str
    position: int


class _Parser:
    def __init__(self, text: str):
        self.text = text
        self.tokens = self._tokens()
        self.index = 0

    def tensor(self, depth: int) -> Node:
        token = self.take("name", "x or a function")
        name, position = token.text, token.position
        if depth > _MAX_DEPTH:
            raise self._error(f"parentheses are nested deeper than {_MAX_DEPTH}", token)
        if name == "x":
            return Input(position)
        if _WEIGHT.fullmatch(name):
            raise self._error(f"{name} is a weight, which only linear takes, as its second argument", token)
        linear = _LINEAR.fullmatch(name)
        if not linear and name not in ACTIVATIONS + COMBINATIONS:
            raise self._error(f"unknown function {name!r}{_hint(name)}", token)
        shape = self._shape(linear, token) if linear else None
        self.take("(", "'('")
        argument = self.tensor(depth + 1)
        if name in ACTIVATIONS:
            self.take(")", "')'")
            return Unary(name, argument, position)
        self.take(",", "','")
        if linear:
            node: Node = Linear(argument, self._weight(), shape, position)
        else:
            node = Binary(name, argument, self.tensor(depth + 1), position)
        self.take(")", "')'")
        return node

    def _shape(self, linear: re.Match, token: _Token) -> Shape | None:
        if linear[1] is None:
            return None
        shape = int(linear[1]), int(linear[2])
        if not all(1 <= number <= MOST for number in shape):
            raise self._error(f"linear<S>_<R> takes S and R from 1 to {MOST}, got {token.text!r}", token)
        return shape

    def _weight(self) -> int:
        token = self.tokens[self.index]
        weight = _WEIGHT.fullmatch(token.text)
        if weight is None:
            raise self._expected("w1 or w2 as the second argument of linear")
        self.index += 1
        return int(weight[1])

    def take(self, kind: str, what: str) -> _Token:
        token = self.tokens[self.index]
        if token.kind != kind:
            raise self._expected(what)
        self.index += 1
        return token

    def _expected(self, what: str) -> ExpressionError:
        token = self.tokens[self.index]
        got = "the end" if token.kind == "end" else repr(token.text)
        return self._error(f"expected {what}, got {got}", token)

    def _error(self, message: str, token: _Token) -> ExpressionError:
        return ExpressionError(message, self.text, token.position)

    def _tokens(self) -> list[_Token]:
        tokens, position, end = [], 0, len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None:
                position += len(self.text[position:]) - len(self.text[position:].lstrip())
                character = _Token("character", self.text[position], position)
                raise self._error(f"unexpected character {character.text!r}", character)
            kind = match.lastgroup
            tokens.append(_Token(match[kind] if kind == "mark" else kind, match[kind], match.start(kind)))
            position = match.end()
        return [*tokens, _Token("end", "", end)]


def _hint(name: str) -> str:
    known = ("linear", *COMBINATIONS, *ACTIVATIONS)
    close = get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; known: x, {', '.join(known)}"
