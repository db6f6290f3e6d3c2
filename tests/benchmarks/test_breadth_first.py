"""The order of tests when time is short, and how they stop."""

import os
import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TESTS = """
import time, pytest

@pytest.mark.parametrize("impl", ["reference", "triton"])
@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
@pytest.mark.parametrize("size", [1, 2])
def test_a(size, dtype, impl):
    print(f"<a {size} {dtype} {impl}>")

@pytest.mark.parametrize("size", [1, 2])
def test_b(size):
    print(f"<b {size}>")

def test_slow():
    time.sleep(SECONDS)
    print("<slow>")
    assert FINE
"""


def run(folder, *options, fine=True):
    (folder / "test_it.py").write_text(f"FINE, SECONDS = {fine}, {3.5 if options else 0}\n{TESTS}")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "breadth_first", "-p", "no:cacheprovider", *options]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return result.returncode, re.findall(r"<(.+?)>", result.stdout), result.stdout


def test_one_of_each_kind_comes_first_and_the_reference_last(tmp_path):
    code, order, _ = run(tmp_path)
    kernels, references = (
        [f"a {size} torch.{dtype} {impl}" for dtype in ("float32", "bfloat16")]
        for size, impl in ((1, "triton"), (1, "reference"))
    )
    assert code == 0 and len(order) == 11
    assert sorted(order[:4]) == sorted([*kernels, "b 1", "slow"]) and sorted(order[4:6]) == sorted(references)
    assert all(" 2" in name for name in order[6:])


def test_stops_when_time_is_up(tmp_path):
    code, order, text = run(tmp_path, "--seconds", "3", "-k", "slow or test_b")
    assert code == 75 and order == ["b 1", "slow"]
    assert "time is up, 1 of 3 tests were not run" in text


def test_a_failure_shows_also_when_time_is_up(tmp_path):
    code, _, text = run(tmp_path, "--seconds", "3", "-k", "slow or test_b", fine=False)
    assert code == 1 and "1 failed" in text


def test_nothing_left_to_run_is_no_stop(tmp_path):
    code, order, text = run(tmp_path, "--seconds", "3", "-k", "slow")
    assert code == 0 and order == ["slow"] and "time is up" not in text
