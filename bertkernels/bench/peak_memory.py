"""Peak memory of one call of a peer on the CPU: `python -m bertkernels.bench.peak_memory` measures itself.

A process of its own for each: memory that earlier work left to the allocator would not count.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import bertkernels

from .case import Case


def peak_memory(case: Case, peer: str) -> int:
    """Bytes that the first call of this peer takes beyond model and inputs, at its peak. Linux only."""
    # The new process finds this package as this one did.
    search_path = [str(Path(bertkernels.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search_path))}
    request = json.dumps({"case": dataclasses.asdict(case), "peer": peer})
    command = [sys.executable, "-m", "bertkernels.bench.peak_memory", request]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return int(done.stdout.split()[-1])


def _measure(case: Case, peer: str) -> int:
    from .select import bench_of

    call = bench_of(case).peers(case, only=[peer])[peer].call
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _kilobytes("VmRSS")
    call()
    return 1024 * (_kilobytes("VmHWM") - before)


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(_measure(Case(**asked["case"]), asked["peer"]))
