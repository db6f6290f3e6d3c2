"""The CUDA sources compile for all targets, without spills; benchmarks/static/cuda.tsv says what the compiler says."""

import importlib.util
import shutil
from pathlib import Path

import pytest

_PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "static_cuda.py"


@pytest.fixture(scope="module")
def static_cuda():
    spec = importlib.util.spec_from_file_location("static_cuda", _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def nvcc(static_cuda):
    found = static_cuda.find_nvcc()
    if found is None or shutil.which("c++filt") is None:
        pytest.skip("needs nvcc and c++filt")
    return found


@pytest.fixture(scope="module")
def compiled(static_cuda, nvcc):
    return static_cuda.compile_all(nvcc)


@pytest.mark.slow
def test_every_kernel_compiles_for_every_target_without_spills(static_cuda, compiled):
    kernels = {row.kernel for row in compiled}
    assert {"differentiate<__nv_bfloat16, 9>", "convolve<float, 9, false>"} <= kernels
    assert {(row.kernel, row.arch) for row in compiled} == {(k, a) for k in kernels for a in static_cuda.ARCHS}
    assert [row for row in compiled if row.stack or row.spill_stores or row.spill_loads] == []


@pytest.mark.slow
def test_committed_table_is_true(static_cuda, nvcc, compiled):
    release, rows = static_cuda.read_table()
    if release != static_cuda.nvcc_release(nvcc):
        pytest.skip(f"the table is of nvcc {release}, here is {static_cuda.nvcc_release(nvcc)}")
    assert rows == compiled, "run: python benchmarks/static_cuda.py --write"
