"""In what two runs' settings differ."""

from collections.abc import Iterator


def differences(before: dict, after: dict, prefix: str = "") -> Iterator[str]:
    """What differs between two nested settings, one line each."""
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} before, {new} now"
