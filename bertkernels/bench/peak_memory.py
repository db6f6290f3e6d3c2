"""Peak memory of a call of a peer on the CPU: `python -m bertkernels.bench.peak_memory` is the process that measures.

Each measurement has a process of its own: memory that earlier work left to the allocator would not count. They are
forks of one process that has imported everything and computed nothing, so that each costs little more than its calls.
"""

import dataclasses
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

import bertkernels

from . import OPS
from .case import Case

# glibc gives large blocks back to the system when they are freed, and takes them anew: what is resident is in use
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_READY = "ready"
_CALLS = 3


def peak_memory(case: Case, peer: str) -> int:
    """Bytes that a call of this peer takes at its peak beyond model, inputs and what earlier calls keep. Linux only.

    To within about a quarter of a megabyte: that is how exactly the system counts.
    """
    with Gauge() as gauge:
        return gauge.peak(case, peer)


def can_measure() -> bool:
    """Whether this system tells a process its peak memory."""
    return Path("/proc/self/clear_refs").exists()


class Gauge:
    """Measures the peak memory of one peer after the other: a context manager around the process that does it, which
    starts when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Gauge":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def peak(self, case: Case, peer: str) -> int:
        """As `peak_memory`. Raises RuntimeError where the call fails."""
        if self._process is None:
            self._process = _start()
        request = json.dumps({"case": dataclasses.asdict(case), "peer": peer})
        try:
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # there will be no answer either
        answer = self._process.stdout.readline().strip()
        if not answer.isdigit():
            raise RuntimeError(f"peak memory of {peer!r} in {case.label}: {answer or 'the process ended'}")
        return int(answer)


def _start() -> subprocess.Popen:
    # The new process finds this package as this one did.
    search_path = [str(Path(bertkernels.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    environment = os.environ | _ALLOCATOR | {"PYTHONPATH": os.pathsep.join(filter(None, search_path))}
    command = [sys.executable, "-m", "bertkernels.bench.peak_memory", str(torch.get_num_threads())]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # in a session of its own: an interruption from the keyboard is for the run, which then ends this process
    process = subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)
    if process.stdout.readline().strip() != _READY:  # its imports shall not disturb what is timed meanwhile
        raise RuntimeError("peak memory: the process that measures it did not start")
    return process


def _serve() -> None:
    """Answers each line of standard input, a case and a peer, by a line with a number of bytes, or an error."""
    for op in OPS:
        importlib.import_module(f"bertkernels.bench.{op}")
    print(_READY, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            if status:
                print(f"it was ended with status {status}", flush=True)
            continue
        try:
            print(_measure(Case(**asked["case"]), asked["peer"]), flush=True)
        except Exception as error:
            traceback.print_exc()
            print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)
        os._exit(0)


def _measure(case: Case, peer: str) -> int:
    from .select import bench_of

    call = bench_of(case).peers(case, only=[peer])[peer].call
    call()  # what a first call sets up for all later ones is not what a call takes
    # the median: the system may take back other pages of the process during a call, a page of code for one
    return 1024 * statistics.median_low(_rise(call) for _ in range(_CALLS))


def _rise(call: Callable[[], object]) -> int:
    """Kilobytes by which a call lifts what is resident."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _kilobytes("VmRSS")
    call()
    return max(0, _kilobytes("VmHWM") - before)


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    _serve()
