"""`bertkernels submission`: checks predictions for GLUE's leaderboard and packs them."""

import argparse
import sys
from pathlib import Path

from bertkernels.errors import InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise InputError(f"{message}; `{self.prog} --help` lists the options")


def run(argv: list[str]) -> int:
    """Writes the ZIP file, or says what is missing and returns 2."""
    from bertkernels.data.glue_leaderboard import ROWS, submission_problems, write_submission

    parser = _Parser(
        prog="bertkernels submission",
        description=f"Checks a folder with {', '.join(f'{name}.tsv' for name in ROWS)} and packs them for GLUE's "
        "leaderboard.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="where `bertkernels predict` wrote")
    parser.add_argument("--output", type=Path, help="the ZIP file (default: submission.zip in the folder)")
    arguments = parser.parse_args(argv)
    if not arguments.folder.is_dir():
        raise InputError(f"{arguments.folder} is no folder")
    target = arguments.output or arguments.folder / "submission.zip"
    if not target.parent.is_dir():
        raise InputError(f"--output {target}: {target.parent} is no folder")
    problems = submission_problems(arguments.folder)
    for problem in problems:
        print(f"bertkernels submission: {problem}", file=sys.stderr)
    if problems:
        return 2
    write_submission(arguments.folder, target)
    print(f"Complete: {len(ROWS)} files with {sum(ROWS.values()):,} predictions in {target}")
    return 0
