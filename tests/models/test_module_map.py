"""Maps of a predecessor's blocks: counts, groups, and what is wrong with others, by the character."""

import pytest

from bertkernels.errors import InputError
from bertkernels.models.module_map import ModuleMap, parse_module_map


@pytest.mark.parametrize(
    ("text", "blocks", "groups"),
    [
        ("6", 12, [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)]),
        ("1", 3, [(0, 2)]),
        ("0-1 2-3 4-7 8-11", 12, [(0, 1), (2, 3), (4, 7), (8, 11)]),
        (" 0  1-2\t3 ", 4, [(0, 0), (1, 2), (3, 3)]),
        ("0-0", 1, [(0, 0)]),
    ],
)
def test_maps(text, blocks, groups):
    found = parse_module_map(text, blocks)
    assert found == ModuleMap(tuple(groups))
    assert found.blocks == blocks and len(found) == len(groups)
    assert parse_module_map(str(found), blocks) == found
    assert [list(found.before(module)) for module in range(len(found))] == [list(range(a, b + 1)) for a, b in groups]


def test_successor_blocks_of_a_module():
    found = parse_module_map("0-1 2-3", 4)
    assert list(found.after(1, 2)) == [1]
    assert list(found.after(1, 4)) == [2, 3]


@pytest.mark.parametrize(
    ("text", "message", "character"),
    [
        ("5", "12 blocks can't be cut into 5 equal modules", None),
        ("0", "from 1 to the predecessor's 12 blocks, got 0", None),
        ("13", "from 1 to the predecessor's 12 blocks, got 13", None),
        ("0-1 3-11", "block 2 is in no module", 5),
        ("0-1 5-11", "blocks 2-4 are in no module", 5),
        ("0-3 3-11", "block 3 is in two modules", 5),
        ("1-11", "block 0 is in no module", 1),
        ("0-5 8-6 9-11", "blocks 6-7 are in no module", 5),
        ("0-5 6-3", "a group must not run backwards, got 6-3", 7),
        ("0-5 6-12", "the predecessor's 12 blocks are 0 to 11, got 12", 7),
        ("0-5 6-9", "the modules end before the predecessor does: 10-11 of its blocks left", 8),
        ("0-5 6-10", "the modules end before the predecessor does: 11 of its blocks left", 9),
        ("0-5,6-11", "expected a block such as 4, or blocks such as 4-7", 1),
        ("0-5 x", "expected a block such as 4, or blocks such as 4-7", 5),
        ("", "expected a number of modules, or groups of blocks", 1),
    ],
)
def test_what_is_wrong(text, message, character):
    with pytest.raises(InputError) as error:
        parse_module_map(text, 12)
    assert message in str(error.value)
    if character is not None:
        assert f"(character {character})" in str(error.value)
        assert str(error.value).splitlines()[-1] == "  " + " " * (character - 1) + "^"
