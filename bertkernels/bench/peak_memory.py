"""Peak memory of one call of a peer on the CPU: `python -m bertkernels.bench.peak_memory` measures itself.

A process of its own for each: what a process once touched counts for ever in its peak.
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import bertkernels

from .case import Case


def peak_memory(case: Case, peer: str) -> int:
    """Bytes that the first call of this peer takes beyond model and inputs, at its peak. Linux and macOS."""
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
    before = _peak()
    call()
    return _peak() - before


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(_measure(Case(**asked["case"]), asked["peer"]))
