"""`bertkernels tune`: finds launch configurations of the Triton kernels for this GPU, and keeps those that win."""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import NoReturn

from bertkernels.errors import InputError
from bertkernels.tune import OPS

_SIZES = ("small", "medium-small", "base")
_DTYPES = ("bfloat16", "float16", "float32")
_DESCRIPTION = """\
Times launch configurations of the Triton kernels on this GPU, on the batches of the benchmarks, and writes those that
beat the kernels' own rule by more than noise. Launches pick them up by the GPU's name, from the package or from the
user's folder ($BERTKERNELS_CACHE/tuned, default ~/.cache/bertkernels/tuned). Nothing else ever tunes."""
_INTERRUPTED = 130  # the shell's code for it


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` lists the options")


def run(argv: list[str]) -> int:
    """Tunes, shows progress, and prints the configurations that won."""
    arguments = _parse(argv)
    import torch

    if not torch.cuda.is_available():
        raise InputError("tuning times kernels on a CUDA device, and torch finds none here")
    try:
        from bertkernels.tune.recording import GraphRecorder
    except ModuleNotFoundError as error:
        raise InputError(f"tuning needs Triton: pip install triton ({error})") from error
    from bertkernels.tune import store
    from bertkernels.tune.jobs import jobs
    from bertkernels.tune.precompile import Precompiler
    from bertkernels.tune.run import timer_on, tune

    device = torch.device(arguments.device)
    if (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {arguments.device}: there are {torch.cuda.device_count()} CUDA devices here")
    dtype = getattr(torch, arguments.dtype)
    todo = jobs(arguments.ops, arguments.sizes, dtype)
    folder = arguments.output or store.default_folder()
    store.check(folder, [job.kernel for job in todo])
    with torch.cuda.device(device), Precompiler(device, dtype) as precompiler:
        name = torch.cuda.get_device_name(device)
        results = tune(
            todo,
            device,
            name,
            folder,
            GraphRecorder(),
            timer_on(device),
            budget_s=arguments.budget_s,
            precompile=precompiler,
            after_each=_show,
        )
        return report(results, len(todo), name, folder)


def report(results, count: int, device_name: str, folder: Path) -> int:
    """Prints each job's outcome as it comes, then what was won and where it stands.

    Returns:
        The exit code: 1 if a kernel cannot run at all, 130 if interrupted.
    """
    print(f"{device_name}: {count} configurations to find", file=sys.stderr, flush=True)
    won, done, short, code = [], 0, 0, 0
    try:
        for job, found in results:
            done += 1
            short += found.tried < len(job.candidates) and not found.failure
            code = code or int(found.failure is not None)
            print(f"\n[{done}/{count}] {job.kernel} {job.key}: {_outcome(found)}", file=sys.stderr, flush=True)
            for reason, times in Counter(_kind(reason) for _, reason in found.discarded).items():
                print(f"    discarded {times} of {found.tried}: {reason}", file=sys.stderr, flush=True)
            if found.winner is not None:
                won.append(f"{job.kernel} {job.key}: {found.gain:.2f}× as fast by {_text(found.winner)}")
    except KeyboardInterrupt:
        print(f"\nInterrupted: {done} of {count} are done and kept.", file=sys.stderr, flush=True)
        code = _INTERRUPTED
    if short:
        print(f"Time was up before all candidates of {short} were tried (--budget_s).", file=sys.stderr, flush=True)
    print("\n".join(won) or "No configuration beats the rules by more than noise.")
    print(f"Tuned configurations: {folder}")
    return code


def _outcome(found) -> str:
    if found.failure is not None:
        return f"not even the rule can be run: {found.failure}"
    if found.winner is not None:
        return f"{found.gain:.2f}× as fast by {_text(found.winner)} ({found.tried} tried)"
    if len(found.discarded) == found.tried:
        return f"the rule stays ({found.tried} tried, none of them usable)"
    return f"the rule stays: the best of {found.tried} is {found.gain:.2f}× as fast, which is within noise or slower"


def _kind(reason: str) -> str:
    return "it spills registers" if reason.startswith("spills") else reason


def _text(configuration) -> str:
    return " ".join(f"{name}={value}" for name, value in configuration.items())


def _show(mark: str) -> None:
    print(mark, end="", file=sys.stderr, flush=True)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="bertkernels tune", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS, metavar="OP", help=f"of {', '.join(OPS)}")
    parser.add_argument("--device", default="cuda", help="cuda, or one of several: cuda:1 (default: cuda)")
    parser.add_argument(
        "--sizes", nargs="+", choices=_SIZES, default=_SIZES, metavar="SIZE", help=f"of {', '.join(_SIZES)}"
    )
    parser.add_argument("--dtype", choices=_DTYPES, default="bfloat16", help="default: bfloat16")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where the files go; entries not found anew stay (default: the package's folder, or the user's where that "
        "cannot be written)",
    )
    parser.add_argument("--budget_s", type=float, default=1800.0, help="seconds for all (default: 1800)")
    arguments = parser.parse_args(argv)
    device, _, index = arguments.device.partition(":")
    if device != "cuda" or (index and not index.isdecimal()):
        raise InputError(f"--device must be cuda or cuda:NUMBER, got {arguments.device!r}")
    if not arguments.budget_s > 0:
        raise InputError(f"--budget_s must be above 0, got {arguments.budget_s}")
    return arguments
