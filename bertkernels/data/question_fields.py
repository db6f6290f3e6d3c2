"""Fields of JSON records about questions: asked for by name and kind, with errors that say where they are wrong."""

import gzip
from collections.abc import Iterator
from pathlib import Path

from bertkernels.data.questions import QuestionSet
from bertkernels.errors import InputError


class Fields:
    """A JSON object and its place in a file."""

    def __init__(self, place: str, value: object) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{place}: expected an object, found {type(value).__name__}")
        self.place = place
        self._value = value

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def of(self, name: str, kind: type, called: str) -> object:
        """The field, which must be of a kind."""
        if name not in self._value:
            raise InputError(f"{self.place}: {name!r} is missing")
        value = self._value[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InputError(f"{self.place}: {name!r} must be {called}, found {value!r:.80}")
        return value

    def text(self, name: str) -> str:
        return self.of(name, str, "text")

    def name(self, name: str) -> str:
        """The field, which must be text that is not empty."""
        value = self.text(name)
        if not value:
            raise InputError(f"{self.place}: {name!r} is empty")
        return value

    def number(self, name: str) -> int:
        return self.of(name, int, "a whole number")

    def flag(self, name: str) -> bool:
        """The field, or False where it is missing."""
        return self.of(name, bool, "true or false") if name in self else False

    def objects(self, name: str, may_be_empty: bool = False) -> Iterator["Fields"]:
        """The objects in a list."""
        values = self.of(name, list, "a list")
        if not values and not may_be_empty:
            raise InputError(f"{self.place}: {name!r} is empty")
        for number, value in enumerate(values):
            yield Fields(f"{self.place}, {name}[{number}]", value)

    def called_by(self, name: str, source: str) -> "Fields":
        """The same, in errors called by its field `name` in place of where it stands, if it has such a name."""
        own = self._value.get(name)
        return Fields(f"{source}, question {own}", self._value) if isinstance(own, str) and own else self


def checked(source: str, questions: QuestionSet) -> QuestionSet:
    """The set as it is. Raises InputError where it is empty or an id comes twice."""
    seen: set[str] = set()
    for question in questions.questions:
        if question.id in seen:
            raise InputError(f"{question.place}: its id comes twice")
        seen.add(question.id)
    if not seen:
        raise InputError(f"{source} holds no questions")
    return questions


def read_bytes(path: str | Path) -> bytes:
    """A file's bytes, unpacked where its name ends in .gz. Raises InputError where it cannot be read."""
    try:
        if Path(path).suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return Path(path).read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
