"""`bertkernels prepare`: text into examples for pre-training, and checks of folders of task data."""

import argparse
from pathlib import Path
from typing import NoReturn

from bertkernels.cli.arguments import parse_arguments
from bertkernels.errors import InputError

_TASKS = ("glue", "squad", "tagging")
_DESCRIPTION = (
    "Reads text, tokenises and packs it into examples for pre-training. Options may also stand in a file. "
    "`bertkernels prepare glue DIR`, `squad DIR` and `tagging DIR` check a folder of task data, file by file."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` lists the options")


def run(argv: list[str]) -> int:
    """Prepares text as the flags say, or checks a folder, and says what is there."""
    return _check(argv[0], argv[1:]) if argv and argv[0] in _TASKS else _prepare(argv)


def _prepare(argv: list[str]) -> int:
    from bertkernels.data.prepare_text import PrepareArguments, prepare_text
    from bertkernels.data.prepared.summary import summary_lines

    (arguments,) = parse_arguments("prepare", _DESCRIPTION, argv, PrepareArguments)
    prepared = prepare_text(arguments)
    print("\n".join(summary_lines(prepared.summary)))
    print(f"Prepared examples: {prepared.folder}")
    return 0


def _check(kind: str, argv: list[str]) -> int:
    from bertkernels.data.checks.glue import check_glue
    from bertkernels.data.checks.report import refuse_unusable, table
    from bertkernels.data.checks.squad import check_squad
    from bertkernels.data.checks.tagging import check_tagging

    check, expected = {
        "glue": (check_glue, "CoLA/train.tsv and so on, as GLUE lays them out"),
        "squad": (check_squad, "train-v1.1.json, dev-v1.1.json, train-v2.0.json or dev-v2.0.json"),
        "tagging": (check_tagging, "files with a word and its tag a line (.txt, .conll, .tsv)"),
    }[kind]
    parser = _Parser(prog=f"bertkernels prepare {kind}", description=check.__doc__, allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path)
    if kind == "glue":
        parser.add_argument(
            "--from_hub",
            nargs="?",
            const="nyu-mll/glue",
            metavar="NAME",
            help="first write the files that are not there from the Hugging Face hub (default: %(const)s)",
        )
    arguments = parser.parse_args(argv)
    folder = arguments.folder
    if kind == "glue" and arguments.from_hub:
        from bertkernels.data.glue_from_hub import write_glue

        write_glue(folder, arguments.from_hub)
    if not folder.is_dir():
        raise InputError(f"DIR {folder} is no folder")
    checks = check(folder)
    print(table(checks))
    refuse_unusable(checks, folder, expected)
    return 0
