"""`bertkernels demo`: the whole tour in five minutes on built-in data, with a report."""

import argparse
import math
import time
from pathlib import Path
from typing import NoReturn

from bertkernels.errors import InputError

_DESCRIPTION = """\
Shows what this package does, on data that is already on this machine: what runs here and on what; a Hugging Face
ConvBERT before and after bertkernels.patch; pre-training a small ConvBERT and fine-tuning it. Ends with the path of a
report page. Uses a GPU if there is one."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` lists the options")


def run(argv: list[str]) -> int:
    """Runs the tour and prints the report's path last."""
    started = time.monotonic()
    arguments = _parse(argv)

    from bertkernels.demo.output_folder import check_demo_folder
    from bertkernels.demo.settings import Settings

    check_demo_folder(arguments.output_dir)
    print("Loading torch and transformers ...", flush=True)
    from bertkernels.demo.tour import tour

    report = tour(Settings(arguments.output_dir, arguments.minutes, arguments.seed), started)
    print(report.resolve())
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="bertkernels demo", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path("demo_output"),
        help="for models, results.json and report.html; an earlier demo's is replaced (default: demo_output)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=5.0,
        help="what all of it may take; pre-training gets what the rest leaves (default: 5)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (default: 0)")
    arguments = parser.parse_args(argv)
    if not (math.isfinite(arguments.minutes) and arguments.minutes > 0):
        raise InputError(f"--minutes must be above 0, got {arguments.minutes}")
    if not 0 <= arguments.seed < 2**32:
        raise InputError(f"--seed must be from 0 to {2**32 - 1}, got {arguments.seed}")
    return arguments
