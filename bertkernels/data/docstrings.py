"""Docstrings of Python source, found by parsing it: nothing is imported or run."""

import ast
import inspect
from collections.abc import Iterator

# Functions that attach documentation to objects written in C: torch's and numpy's way of documenting them.
_ATTACHERS = {"add_docstr", "_add_docstr", "add_docstr_all", "add_newdoc"}


def docstrings(source: str) -> Iterator[str]:
    """Yields the docstrings of a module's source in the order of their lines, without their indentation.

    Raises SyntaxError (or ValueError for null bytes) where the source does not parse.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                found.append((node.body[0].lineno, text))
        elif isinstance(node, ast.Call) and _called_name(node) in _ATTACHERS:
            found += [(line, inspect.cleandoc(text)) for line, text in _attached(node)]
    for _, text in sorted(found, key=lambda item: item[0]):
        yield text


def _called_name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _attached(call: ast.Call) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.Tuple(elts=call.args, ctx=ast.Load())):
        # Names of objects and methods are strings among the arguments too; documentation has several words.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 3:
            yield node.lineno, node.value
