"""`bertkernels bench`: measures the ops and encoders on this machine beside their peers, and reports on results."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from bertkernels.bench import OPS
from bertkernels.errors import InputError

_MEASURING = "ops quick device threads no_compile output fresh"  # options of a run


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` lists the options")


def run(argv: list[str]) -> int:
    """Measures, or with --report makes tables of earlier results; with --limits shows what was reached of them."""
    arguments = _parse(argv)
    if arguments.report:
        return _report(arguments)
    _check_device(arguments.device)
    return _measure(arguments)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="bertkernels bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS, metavar="OP", help=f"of {', '.join(OPS)}")
    parser.add_argument("--quick", action="store_true", help="one shape an op, under a minute; nothing is written")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--no-compile", action="store_true", help="leave out peers that go through torch.compile")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.jsonl",
        help="results, written after each case; an interrupted run goes on from there, and other cases in it are kept",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="measure also what the file already holds of these sources"
    )
    parser.add_argument(
        "--limits", action="store_true", help="show the limits and what is reached; exit code 1 where one is missed"
    )
    parser.add_argument("--report", nargs="+", type=Path, metavar="FILE", help="measure nothing: tables of these files")
    parser.add_argument("--update", type=Path, metavar="README.md", help="with --report: replace a page's short tables")
    parser.add_argument("--details", type=Path, metavar="FILE.md", help="with --report: replace a page's full tables")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="with --report: draw, for light and dark pages")
    arguments = parser.parse_args(argv)
    if arguments.threads is not None and arguments.threads < 1:
        raise InputError(f"--threads must be at least 1, got {arguments.threads}")
    for option in ("update", "details", "plot"):
        if getattr(arguments, option) and not arguments.report:
            raise InputError(f"--{option} goes with --report FILE")
    if arguments.report:
        _refuse("--report measures nothing", arguments, parser, _MEASURING)
    return arguments


def _refuse(why: str, arguments: argparse.Namespace, parser: argparse.ArgumentParser, options: str) -> None:
    """Raises where one of these options was given: it would be without effect."""
    for option in options.split():
        if getattr(arguments, option) != parser.get_default(option):
            raise InputError(f"{why}: --{option.replace('_', '-')} does not go with it")


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; `bertkernels info` says what there is")


def _measure(arguments: argparse.Namespace) -> int:
    from bertkernels.bench import results
    from bertkernels.bench.measure import FULL, QUICK
    from bertkernels.bench.report import markdown
    from bertkernels.bench.run import run
    from bertkernels.bench.select import select_cases
    from bertkernels.bench.timing import thread_count

    path = arguments.output
    if path is None and not arguments.quick:
        path = results.default_file(arguments.device)
    cases = select_cases(arguments.ops, arguments.device, arguments.quick, compiled=not arguments.no_compile)
    effort = QUICK if arguments.quick else FULL
    try:
        with thread_count(arguments.threads):
            outcome = run(cases, effort, arguments.device, path, arguments.fresh)
    except KeyboardInterrupt:
        kept = f"what was measured is in {path}, and the same command goes on from there" if path else "nothing is kept"
        print(f"\nbertkernels bench: stopped; {kept}", file=sys.stderr)
        return 130
    missed = _limits(outcome.rows) if arguments.limits else 0
    if not arguments.limits:
        print(markdown(outcome.rows), end="")
    print(f"\nResults: {path}" if path else "\nNothing was written: a quick run measures little (--output keeps it).")
    if outcome.disagreements:
        print(f"bertkernels bench: peers disagreed in {outcome.disagreements} of {len(cases)} cases", file=sys.stderr)
    return 1 if outcome.disagreements or missed else 0


def _limits(rows: list[dict]) -> int:
    """Prints what these rows say of the limits; how many are missed."""
    from bertkernels.bench import limits_table

    print(limits_table.markdown(rows), end="")
    return sum(outcome.missed for _, outcomes in limits_table.check(rows) for outcome in outcomes)


def _report(arguments: argparse.Namespace) -> int:
    from bertkernels.bench import pages, results

    rows = []
    for path in arguments.report:
        rows = results.merged(rows, results.read(path))
    if not rows:
        raise InputError(f"{', '.join(map(str, arguments.report))}: no results in there")
    text = pages.write(rows, arguments.update, arguments.details, arguments.plot)
    if arguments.limits:
        return 1 if _limits(rows) else 0
    if arguments.update is None:
        print(text, end="")
    return 0
