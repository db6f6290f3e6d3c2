"""The CUDA sources compile for all targets without spills; benchmarks/results/static_cuda.jsonl is what nvcc says."""

import importlib
import shutil
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def static_cuda():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("static_cuda")


@pytest.fixture(scope="module")
def table(static_cuda):
    return static_cuda.static_table.read(static_cuda.static_table.CUDA)


@pytest.fixture(scope="module")
def nvcc(static_cuda):
    found = static_cuda.find_nvcc()
    if found is None or static_cuda.static_cubin.find_cuobjdump() is None or shutil.which("c++filt") is None:
        pytest.skip("needs nvcc, cuobjdump and c++filt")
    return found


@pytest.fixture(scope="module")
def compiled(static_cuda, nvcc, table):
    """Anew for one target; `make static` compiles for all."""
    return static_cuda.compile_all(nvcc, [row for row in table if row["target"] != static_cuda.TARGETS[-1]])


@pytest.mark.slow
def test_every_kernel_compiles_without_spills(static_cuda, compiled):
    kernels = {(row["op"], row["kernel"]) for row in compiled}
    assert {("light_conv", "differentiate<__nv_bfloat16, 9>"), ("light_conv", "convolve<float, 9, false>")} <= kernels
    assert {("depthwise_conv", "correlate<__nv_bfloat16, 9>"), ("depthwise_conv", "convolve<float, 15>")} <= kernels
    found = {(row["op"], row["kernel"], row["target"]) for row in compiled}
    assert found == {(*kernel, target) for kernel in kernels for target in static_cuda.TARGETS}
    assert [row for row in compiled if row["stack_bytes"] or row["spill_bytes"]] == []


@pytest.mark.slow
def test_committed_table_is_true(static_cuda, nvcc, compiled, table):
    (compiler,) = {row["compiler"] for row in table}
    if compiler != static_cuda.compiler(nvcc):
        pytest.skip(f"the table is of {compiler}, here is {static_cuda.compiler(nvcc)}")
    assert table == compiled, "run: make static"


def test_committed_table_is_of_this_source(static_cuda, table):
    digests = {source.stem: static_cuda.source_digest(source) for source in static_cuda.sources()}
    stale = "run make static: the kernels have changed since the table was written"
    assert {(row["op"], row["source"]) for row in table} == set(digests.items()), stale
    assert [row for row in table if row["stack_bytes"] or row["spill_bytes"]] == []


def test_only_what_changed_is_compiled_anew(static_cuda, table, monkeypatch):
    asked = []
    monkeypatch.setattr(static_cuda, "compiler", lambda nvcc: table[0]["compiler"])
    monkeypatch.setattr(
        static_cuda, "_compile", lambda nvcc, source, target, _: asked.append((source.stem, target)) or []
    )
    assert static_cuda.compile_all("nvcc", table) == table and asked == []
    known = [{**row, "source": "of other code"} if row["target"] == 80 else row for row in table]
    static_cuda.compile_all("nvcc", known)
    assert asked == [(source.stem, 80) for source in static_cuda.sources()]


def test_rows_are_moved_16_bytes_at_a_time(table):
    """From memory to shared memory past the registers, and back; single numbers where they lie anywhere."""
    for row in table:
        if row["kernel"].startswith(("convolve", "differentiate<", "correlate")):
            assert row["copies"].get("LDGSTS.16", 0) > 0, row


def test_names_and_shared_memory_are_read_from_what_the_tools_print(static_cuda):
    report = (
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function '_Z3addPf' for 'sm_90'\n"
        "ptxas info    : Function properties for _Z3addPf\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 96 registers, used 1 barriers, 11644 bytes smem\n"
        "ptxas info    : Compiling entry function '_Z5otherIfLi9EEvPT_' for 'sm_90'\n"
        "ptxas info    : Used 30 registers, 360 bytes cmem[0]\n"
    )
    assert static_cuda.parse_shared(report) == {"_Z3addPf": 11644, "_Z5otherIfLi9EEvPT_": 0}
    if shutil.which("c++filt") is None:
        pytest.skip("needs c++filt")
    names = static_cuda.demangled(["_ZN11bertkernels12_GLOBAL__N_15otherIfLi9EEEvPT_"])
    assert list(names.values()) == ["other<float, 9>"]
