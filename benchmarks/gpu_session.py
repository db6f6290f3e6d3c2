"""Everything on a GPU machine in one command and under ten minutes: build, test, measure, profile. Needs no network.

python benchmarks/gpu_session.py                     what `make bench-gpu` runs
python benchmarks/gpu_session.py --phases tune       one phase or several; tune is run only when asked for

A phase that fails or outlasts its time does not stop the others, and what it has done by then is kept; the exit code is
1 where one has failed. Each leaves a text in benchmarks/results/gpu_session; measurements are in
benchmarks/results/cuda.jsonl. Where the environment variable RESULTS_COPY names a folder, all of that is copied there
after each phase.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from breadth_first import TIME_IS_UP

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TEXTS = RESULTS / "gpu_session"
TUNED = ROOT / "kernels" / "tuned"
_GRACE = 8  # seconds for what was interrupted to write what it has

Command = tuple[str, ...]


@dataclass(frozen=True)
class Phase:
    """Commands that run side by side.

    seconds: its share of the time; what earlier phases left over comes on top.
    fine: exit codes that are no failure.
    """

    name: str
    commands: tuple[Command, ...]
    seconds: float
    fine: tuple[int, ...] = (0, TIME_IS_UP)


@dataclass(frozen=True)
class Outcome:
    phase: str
    seconds: float
    result: str  # "ok", "failed: …" or "time was up"


def phases(python: str = sys.executable) -> dict[str, Phase]:
    """What there is to run, in its order."""
    report = (python, "-m", "bertkernels", "bench", "--report", str(RESULTS / "cuda.jsonl"), "--limits")
    bench = (python, "-m", "bertkernels", "bench", "--device", "cuda")
    pytest = (python, "-m", "pytest", "-v", "-m", "gpu", "-p", "breadth_first", "-p", "no:cacheprovider")
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "ops").glob("test_*.py"))
    of_each_file = tuple((*pytest, "--seconds", "190", file) for file in files)
    build = (python, "setup.py", "-q", "build_ext", "--inplace")
    ready = (python, "-c", "import bertkernels._C as C; print('GPU targets:', C.cuda_archs)")
    return {
        phase.name: phase
        for phase in (
            Phase("build", (build,), 90),
            Phase("ready", (ready,), 5),
            Phase("tests", of_each_file, 215),
            Phase("timing_tests", ((*pytest, "tests/bench"),), 25),
            Phase("profile", ((python, "benchmarks/profile_step.py"),), 35),
            Phase("bench_encoder", ((*bench, "--no-compile", "--ops", "encoder"),), 60),
            Phase("bench_ops", ((*bench, "--no-compile"),), 80),
            Phase("bench_compiled", ((*bench, "--ops", "encoder", "light_conv"),), 60),
            Phase("limits", (report,), 10, fine=(0, 1)),  # 1: one is missed
            Phase("tune", ((python, "-m", "bertkernels", "tune", "--budget_s", "290"),), 320),
        )
    }


ALWAYS = (
    "build",
    "ready",
    "tests",
    "timing_tests",
    "profile",
    "bench_encoder",
    "bench_ops",
    "bench_compiled",
    "limits",
)


def run(todo: Sequence[Phase], texts: Path, environment: dict[str, str], copy_to: Path | None) -> list[Outcome]:
    """Runs the phases one after the other. The summary and the copy are made anew after each."""
    texts.mkdir(parents=True, exist_ok=True)
    outcomes = []
    end = time.monotonic()
    for phase in todo:
        end += phase.seconds
        print(f"{phase.name}: at most {end - time.monotonic():.0f} s", flush=True)
        start = time.monotonic()
        try:
            result = _run_side_by_side(phase, texts / f"{phase.name}.txt", end, environment)
            outcomes.append(Outcome(phase.name, time.monotonic() - start, result))
        finally:  # also when the whole session is stopped
            (texts / "summary.txt").write_text(summary(outcomes), encoding="utf-8")
            if copy_to is not None:
                copy_results(texts, copy_to)
        print(f"{phase.name}: {result} after {outcomes[-1].seconds:.0f} s", flush=True)
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> str:
    return "".join(f"{outcome.phase:<16}{outcome.seconds:6.0f} s  {outcome.result}\n" for outcome in outcomes)


def _run_side_by_side(phase: Phase, text: Path, end: float, environment: dict[str, str]) -> str:
    """Runs all commands until they end or `end` comes, their output one after the other in `text`."""
    commands = phase.commands
    parts = [text.with_suffix(f".{number}.part") for number in range(len(commands))]
    codes: list[int | None] = [None] * len(commands)
    room = threading.Semaphore(max(1, os.cpu_count() or 1))

    def run_one(number: int) -> None:
        with room:
            if time.monotonic() < end:
                codes[number] = _run_until(commands[number], parts[number], end, environment)

    threads = [threading.Thread(target=run_one, args=(number,)) for number in range(len(commands))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        with text.open("wb") as whole:
            for command, part in zip(commands, parts, strict=True):
                whole.write(f"$ {' '.join(command)}\n".encode())
                if part.is_file():
                    whole.write(part.read_bytes() + b"\n")
                    part.unlink()
    failed = [code for code in codes if code is not None and code not in phase.fine]
    if failed:
        return f"failed: {len(failed)} of {len(commands)} commands, exit code {failed[0]}"
    return "time was up" if None in codes or TIME_IS_UP in codes else "ok"


def _run_until(command: Command, text: Path, end: float, environment: dict[str, str]) -> int | None:
    """The exit code; None if `end` came first: it is interrupted then, so that it can write what it has, or killed."""
    with text.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(max(0, end - _GRACE - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                pass
            return None
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # and whatever it has started
            except ProcessLookupError:
                pass
            process.wait()


def copy_results(texts: Path, folder: Path) -> None:
    """Texts, measurements, and tuned configurations as one archive."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = RESULTS / "cuda.jsonl"
    for path in (*texts.glob("*.txt"), *([measured] if measured.is_file() else [])):
        shutil.copy(path, folder / path.name)
    if (texts / "tune.txt").is_file():
        shutil.make_archive(str(folder / "tuned"), "gztar", TUNED)


def session_environment() -> dict[str, str]:
    """That of the commands: this checkout's package and plugin, and code for this GPU alone."""
    environment = dict(os.environ)
    paths = [str(ROOT), str(ROOT / "benchmarks"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["PYTHONUNBUFFERED"] = "1"
    environment["HF_HUB_OFFLINE"] = "1"
    if "BERTKERNELS_CUDA_ARCHS" not in environment:
        ask = "import torch; print(*torch.cuda.get_device_capability(), sep='')"
        answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
        if answer.returncode:
            sys.exit(f"gpu_session: torch finds no CUDA device here ({answer.stderr.strip().splitlines()[-1]})")
        environment["BERTKERNELS_CUDA_ARCHS"] = answer.stdout.strip()
    return environment


def main(argv: list[str]) -> int:
    known = phases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", nargs="+", choices=known, default=ALWAYS, metavar="PHASE", help=", ".join(known))
    asked = parser.parse_args(argv).phases
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    copy_to = Path(os.environ["RESULTS_COPY"]) if os.environ.get("RESULTS_COPY") else None
    todo = [phase for phase in known.values() if phase.name in asked]
    outcomes = run(todo, TEXTS, session_environment(), copy_to)
    print(f"\n{summary(outcomes)}\nTexts: {TEXTS}", flush=True)
    return 1 if any(outcome.result.startswith("failed") for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
