"""Module maps: the text that says which blocks of an encoder each module of its successor stands for.

    map    := count | group+
    group  := block [ "-" block ]

`0-1 2-3 4-7 8-11` are four modules of twelve blocks, counted from 0; `6` cuts the blocks into six equal modules.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bertkernels.errors import InputError

_GROUP = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?(?=\s|$)")
_COUNT = re.compile(r"\s*[0-9]{1,6}\s*")


@dataclass(frozen=True)
class ModuleMap:
    """The predecessor's blocks by module: (first, last), both counted, in order and without gaps.

    `str(map)` is its normal form, which `parse_module_map` reads.
    """

    groups: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.groups)

    def __str__(self) -> str:
        # a single group would read as a count
        return " ".join(str(a) if a == b and len(self) > 1 else f"{a}-{b}" for a, b in self.groups)

    @property
    def blocks(self) -> int:
        """Of the predecessor, in all."""
        return self.groups[-1][1] + 1

    def before(self, module: int) -> range:
        """The predecessor's blocks of a module."""
        first, last = self.groups[module]
        return range(first, last + 1)

    def after(self, module: int, successor_blocks: int) -> range:
        """The successor's blocks of a module, of which each has as many as the others."""
        share = successor_blocks // len(self)
        return range(module * share, (module + 1) * share)


def parse_module_map(text: str, blocks: int) -> ModuleMap:
    """Reads the map of a predecessor with so many blocks.

    Raises:
        InputError: a count that does not divide the blocks, or groups that leave blocks out, take some twice or take
            what is not there; naming the character, with the text and a caret below it.
    """
    if _COUNT.fullmatch(text):
        return _equal_modules(int(text), blocks)
    groups: list[tuple[int, int]] = []
    for match in _groups(text):
        first, last = int(match[1]), int(match[2] or match[1])
        expected = groups[-1][1] + 1 if groups else 0
        if first > expected:
            missing = f"block {expected} is" if first == expected + 1 else f"blocks {expected}-{first - 1} are"
            raise _error(f"{missing} in no module: a group must begin with {expected}", text, match.start(1))
        if first < expected:
            raise _error(f"block {first} is in two modules: a group must begin with {expected}", text, match.start(1))
        if last < first:
            raise _error(f"a group must not run backwards, got {match[0]}", text, match.start(2))
        if last >= blocks:
            at = match.start(2) if match[2] else match.start(1)
            raise _error(f"the predecessor's {blocks} blocks are 0 to {blocks - 1}, got {last}", text, at)
        groups.append((first, last))
    if not groups:
        raise _error("expected a number of modules, or groups of blocks such as 0-1 2-3", text, 0)
    if groups[-1][1] < blocks - 1:
        left = f"{groups[-1][1] + 1}-{blocks - 1}" if groups[-1][1] < blocks - 2 else str(blocks - 1)
        raise _error(f"the modules end before the predecessor does: {left} of its blocks left", text, len(text))
    return ModuleMap(tuple(groups))


def _equal_modules(count: int, blocks: int) -> ModuleMap:
    if not 1 <= count <= blocks:
        raise InputError(f"successor_blocks must be from 1 to the predecessor's {blocks} blocks, got {count}")
    if blocks % count:
        raise InputError(
            f"successor_blocks {count}: {blocks} blocks can't be cut into {count} equal modules; give the groups, such "
            f'as "0-{blocks // count} …"'
        )
    size = blocks // count
    return ModuleMap(tuple((start, start + size - 1) for start in range(0, blocks, size)))


def _groups(text: str) -> Iterator[re.Match]:
    position, end = 0, len(text.rstrip())
    while position < end:
        position += len(text[position:]) - len(text[position:].lstrip())
        match = _GROUP.match(text, position)
        if match is None:
            raise _error("expected a block such as 4, or blocks such as 4-7", text, position)
        yield match
        position = match.end()


def _error(message: str, text: str, position: int) -> InputError:
    shown = re.sub(r"\s", " ", text)
    return InputError(
        f"successor_blocks: {message} (character {position + 1})\n  {shown}\n  {' ' * position}^",
    )
