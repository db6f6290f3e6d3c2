"""The commands on the migration page are ones that the command line takes."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
from transformers import HfArgumentParser

from bertkernels.cli.main import VERBS, main

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "migration.md"
_BLOCKS = re.findall(r"^```\n(.*?)^```$", _PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
_COMMANDS = [line for block in _BLOCKS for line in block.splitlines()]


class _Parsed(Exception):
    """Parsing went well; nothing is to be done."""


@pytest.fixture
def parse_only(monkeypatch):
    def parse(parser, args=None, *_, **__):
        _, rest = parser.parse_known_args(args)
        assert not rest, f"unknown: {rest}"
        raise _Parsed

    monkeypatch.setattr(HfArgumentParser, "parse_args_into_dataclasses", parse)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_parses(command, parse_only, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program, *argv = shlex.split(command)
    assert program == "bertkernels"
    with pytest.raises(_Parsed):
        main(argv)


def test_verbs_in_the_text_exist():
    named = set(re.findall(r"`bertkernels ([a-z]+)", _PAGE.read_text(encoding="utf-8")))
    assert len(named) >= 6
    assert named <= VERBS.keys()
