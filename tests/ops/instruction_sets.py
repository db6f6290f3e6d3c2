"""The builds of the C++ code for less than what this CPU can do."""

import os
import subprocess
import sys

import pytest

from bertkernels import ops

LOWER = ["baseline", "avx2"]


def run_with_instruction_set(op: str, isa: str, code: str) -> None:
    """Runs `code`, which has torch and ops, in a process of its own: the choice is made once."""
    possible, reason = ops.can_run(op, "cpu", "cpu")
    if not possible:
        pytest.skip(reason)
    preamble = (
        "import torch; from bertkernels import ops; from bertkernels.ops.extension import C\n"
        f"assert C.active_isa() in ({isa!r}, 'baseline'), C.active_isa()\n"
    )
    environment = {**os.environ, "BERTKERNELS_ISA": isa, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", preamble + code], check=True, env=environment)
