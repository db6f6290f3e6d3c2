"""Flags of the training verbs: dataclasses filled from the command line, a YAML or JSON file, or both."""

import difflib
import json
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from bertkernels.errors import InputError

_FILES = (".yaml", ".yml", ".json")


class _Parser(HfArgumentParser):
    def error(self, message: str) -> None:
        raise InputError(f"{message}; `{self.prog} --help` lists the options")


def parse_arguments(verb: str, description: str, argv: list[str], *dataclasses: type) -> tuple:
    """Instances of the dataclasses, one each. `argv` is flags, or first a file of flags, which later flags override.

    Raises InputError for an unknown flag (naming the closest), a wrong value, or a file that cannot be read.
    """
    argv = expand_file(argv)
    parser = _Parser(dataclasses, prog=f"bertkernels {verb}", description=description, allow_abbrev=False)
    try:
        *filled, rest = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, TypeError) as error:
        raise InputError(" ".join(str(error).split())) from error
    if rest:
        known = [flag for action in parser._actions for flag in action.option_strings]
        close = difflib.get_close_matches(rest[0].split("=")[0], known, n=1)
        raise InputError(f"unknown option {rest[0]!r}" + (f", did you mean {close[0]}?" if close else ""))
    return tuple(filled)


def expand_file(argv: list[str]) -> list[str]:
    """Flags alone: where the first argument is a file of flags, what stands in it comes in its place.

    Raises InputError for a file that cannot be read.
    """
    if argv and argv[0].endswith(_FILES) and not argv[0].startswith("-"):
        return [*flags_of(read_content(Path(argv[0]))), *argv[1:]]
    return argv


def read_content(path: Path) -> dict[str, object]:
    """What a YAML or JSON file holds, by name. Raises InputError for a file that cannot be read or holds no names."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML or JSON ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected one value for each option")
    return content


def flags_of(content: dict[str, object]) -> list[str]:
    """The same as flags."""
    flags = []
    for name, value in content.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        flags += [f"--{name}", *(json.dumps(one) if isinstance(one, dict) else str(one) for one in values)]
    return flags
