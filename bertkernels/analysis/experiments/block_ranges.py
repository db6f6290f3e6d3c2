"""Sets of blocks: as text, and those that single and cumulative experiments go through."""

from collections.abc import Iterator, Sequence

from bertkernels.errors import InputError

SINGLE, FORWARD, BACKWARD = "single", "forward", "backward"
WAYS = (SINGLE, FORWARD, BACKWARD)


def read_range(text: str, blocks: int) -> list[int]:
    """Blocks such as `4`, `0-3` or `0-2,5`. Raises InputError for what is none, and for one that is not there."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            low, high = int(first), int(last or first)
        except ValueError as error:
            raise InputError(f"blocks are like 4, 0-3 or 0-2,5, not {text!r}") from error
        if not 0 <= low <= high < blocks:
            raise InputError(f"blocks {part}: the model has blocks 0 to {blocks - 1}")
        found += range(low, high + 1)
    return found


def block_sets(ways: Sequence[str], having: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """(way, blocks): each block alone; the first, the first two, …; the last, the last two, ….

    Args:
        having: the blocks there are, in order.

    Raises:
        InputError: an unknown way.
    """
    for way in ways:
        if way == SINGLE:
            yield from ((way, [block]) for block in having)
        elif way == FORWARD:
            yield from ((way, list(having[:count])) for count in range(1, len(having) + 1))
        elif way == BACKWARD:
            yield from ((way, list(having[-count:])) for count in range(1, len(having) + 1))
        else:
            raise InputError(f"blocks are taken {', '.join(WAYS)}, not {way!r}")
