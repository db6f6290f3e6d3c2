"""What the command line shows as one sentence in place of a traceback."""

import re

_SHOWN = 70  # how much of a long text an error quotes


class InputError(ValueError):
    """Bad input of the user's (a file, a flag, a plan): exit code 2."""


class OutputError(RuntimeError):
    """Output that could not be written: exit code 1."""


def point_at(text: str, position: int) -> str:
    """What follows a message about one character of a text: its number, and the text around it above a caret."""
    start = max(0, position - _SHOWN // 2)
    quoted = re.sub(r"\s", " ", text[start : start + _SHOWN])
    return f"(character {position + 1})\n  {quoted}\n  {' ' * (position - start)}^"
