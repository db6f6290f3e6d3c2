"""Each op's kernels: what is called launches them, under the key that is written, with configurations they can take."""

import ast
import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("looks at launches of compiled kernels", allow_module_level=True)

from bertkernels.bench.case import dimensions  # noqa: E402
from bertkernels.kernels import tuning  # noqa: E402
from bertkernels.tune import OPS  # noqa: E402
from bertkernels.tune.jobs import jobs  # noqa: E402
from tests.kernels.launches import observed_launches  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SIZES = ("small", "medium-small", "base")
CPU = torch.device("cpu")
JOBS = jobs(OPS, SIZES, torch.bfloat16)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.kernel}-{job.key}")
def test_calls_ask_for_the_configuration_that_is_tuned(job, monkeypatch):
    asked = set()

    def tuned(kernel, device, dtype, **sizes):
        asked.add((kernel, tuning.key(dtype, **sizes)))
        return {}

    monkeypatch.setattr(tuning, "tuned", tuned)
    tuning.forget()
    for subject in job.subjects.values():
        with observed_launches() as launches:
            call = subject.build(2, 24, CPU)
            asked.clear()
            tuning.forget()
            del launches[:]
            results = call()
        assert (job.kernel, job.key) in asked
        assert {kernel for kernel, _ in asked} <= {job.kernel for job in JOBS}
        assert f"{job.kernel}_kernel" in {launch.kernel for launch in launches}
        assert results and all(isinstance(result, torch.Tensor) and result.numel() for result in results)
    tuning.forget()


@pytest.mark.parametrize("job", jobs(OPS, ["medium-small"], torch.bfloat16), ids=lambda job: f"{job.kernel}-{job.key}")
def test_every_candidate_is_launched_with_constants_of_its_own(job):
    (subject,) = job.subjects.values()
    seen = set()
    for candidate in job.candidates:
        assert candidate.keys() == job.candidates[0].keys()
        assert all(type(value) is int and value > 0 for value in candidate.values())
        with observed_launches() as launches, tuning.trial(job.kernel, candidate):
            subject.build(1, 24, CPU)()
        seen.add(frozenset(launch for launch in launches if launch.kernel == f"{job.kernel}_kernel"))
    assert all(seen) and len(seen) == len(job.candidates) >= 15


def test_every_op_whose_launchers_look_for_configurations_is_tuned():
    looking = {path.stem for path in (ROOT / "kernels").glob("*.py") if "tuning.tuned(" in path.read_text()}
    assert looking == set(OPS)


def test_every_shipped_file_is_a_kernels_and_sets_what_is_tuned():
    fields = {job.kernel: job.candidates[0].keys() for job in JOBS}
    for path in tuning.FOLDER.glob("*.json"):
        for entries in tuning.read(path).values():
            assert all(entry.keys() == fields[path.stem] for entry in entries.values()), path.name
        assert path.stem in fields


def test_models_of_the_same_widths_share_a_job():
    (job,) = (job for job in JOBS if job.kernel == "light_conv_fwd" and job.key == "D=64,K=9,bfloat16")
    assert list(job.subjects) == ["small", "base"]
    assert len({(job.kernel, job.key) for job in JOBS}) == len(JOBS)
    assert dimensions("small").head_width == dimensions("base").head_width


@pytest.mark.parametrize(
    "folder", ["kernels", "models", *(f"bertkernels/{name}" for name in ("ops", "nn", "hf", "training"))]
)
def test_nothing_that_a_user_runs_times_a_kernel(folder):
    """No tuner of Triton's, no benchmark, no clock of the device, and nothing of `bertkernels tune`."""
    forbidden = {"autotune", "heuristics", "do_bench", "do_bench_cudagraph", "testing", "Event", "elapsed_time"}
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = set()
            if isinstance(node, ast.Attribute):
                names = {node.attr}
            elif isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or ""
                names = {part for alias in node.names for part in alias.name.split(".")} | set(module.split("."))
                assert not {"tune", "bench"} & names, f"{path}: line {node.lineno}"
            assert not forbidden & names, f"{path}: line {node.lineno}"
