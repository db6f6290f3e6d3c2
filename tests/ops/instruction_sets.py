"""Runs tests on CPU kernels for lower instruction sets than this machine's best."""

import functools
import json
import os
import subprocess
import sys

import pytest

from bertkernels import ops

# The builds of the C++ code for less than what this CPU can do.
LOWER = ["baseline", "avx2"]

# Answers each line, a piece of code, by a line: nothing, or what went wrong. What the code prints goes to stderr.
_SERVE = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import torch
from bertkernels import ops
from bertkernels.ops.extension import C
for line in sys.stdin:
    error = None
    try:
        exec(json.loads(line), {"torch": torch, "ops": ops, "C": C})
    except Exception:
        error = traceback.format_exc()
    print(json.dumps(error), file=answers, flush=True)
"""


def run_with_instruction_set(op: str, isa: str, code: str) -> None:
    """Runs `code`, which has torch, ops and C, in a process for this instruction set: the choice is made once."""
    possible, reason = ops.can_run(op, "cpu", "cpu")
    if not possible:
        pytest.skip(reason)
    process = _process(isa)
    print(json.dumps(f"assert C.active_isa() in ({isa!r}, 'baseline'), C.active_isa()\n{code}"), file=process.stdin)
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, f"the process ended with code {process.wait()}"
    error = json.loads(answer)
    assert error is None, error


@functools.cache
def _process(isa: str) -> subprocess.Popen:
    """Starting one takes seconds: it is kept. It ends with its input."""
    environment = {**os.environ, "BERTKERNELS_ISA": isa, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", _SERVE], env=environment, text=True, **pipes)
