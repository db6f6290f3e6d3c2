"""Candidates compiled ahead are those that are run."""

import os
import time

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("looks at launches of compiled kernels", allow_module_level=True)

from bertkernels.kernels import tuning  # noqa: E402
from bertkernels.tune import OPS  # noqa: E402
from bertkernels.tune.jobs import jobs  # noqa: E402
from bertkernels.tune.precompile import Precompiler, compile_candidate  # noqa: E402
from tests.kernels.launches import observed_launches  # noqa: E402

CPU, DTYPE = torch.device("cpu"), torch.bfloat16


@pytest.mark.parametrize("job", jobs(OPS, ["base"], DTYPE), ids=lambda job: f"{job.kernel}-{job.key}")
def test_what_is_compiled_is_what_is_timed(job):
    candidate = job.candidates[-1]
    with observed_launches() as ahead:
        compile_candidate(job.op, "base", job.kernel, job.key, candidate, DTYPE, CPU)
    with observed_launches() as later, tuning.trial(job.kernel, candidate):
        job.subjects["base"].build(8, 96, CPU)()
    assert later and set(later) == set(ahead)


def test_what_cannot_be_compiled_ahead_does_no_harm():
    """Here all fail: without a GPU Triton launches nothing."""
    (job, *_) = jobs(["light_conv"], ["small"], DTYPE)
    with Precompiler(CPU, DTYPE, workers=1) as precompile:
        precompile(job, job.candidates[:2], float("inf"))
        start = time.monotonic()
        precompile(job, job.candidates, 0.0)
        assert time.monotonic() - start < 5
