"""Which field of a record is the text, and the text's lines."""

from collections.abc import Iterator, Mapping

from bertkernels.errors import InputError

_USUAL = ("text", "content", "document", "article", "sentences", "sentence")


def text_column(fields: Mapping[str, object], named: str | None, place: str) -> str:
    """The named column, or the usual one. Raises InputError where there is none."""
    if named is not None:
        if named not in fields:
            raise InputError(f"{place}: no field {named!r} for the text; fields: {', '.join(fields)}")
        return named
    column = next((name for name in _USUAL if name in fields), None)
    if column is None:
        raise InputError(f"{place}: no text among the fields {', '.join(fields)}; name it with --text_column")
    return column


def text_sentences(value: object, column: str, place: str) -> Iterator[str]:
    """The lines of a text, or the entries of a list of sentences."""
    parts = value.splitlines() if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise InputError(f"{place}: {column!r} must be text or a list of sentences, found {type(value).__name__}")
    for part in parts:
        if sentence := " ".join(part.split()):
            yield sentence
