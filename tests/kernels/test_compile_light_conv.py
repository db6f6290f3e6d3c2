"""The Triton kernels of light_conv compiled for GPUs that need not be there, and the committed table of the outcome."""

import importlib
import os
import re
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def static_triton():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("static_triton")


@pytest.fixture(scope="module")
def static_table(static_triton):
    return static_triton.static_table


@pytest.fixture(scope="module")
def table(static_table):
    return [row for row in static_table.read(static_table.TRITON) if row["op"] == "light_conv"]


def test_table_is_complete_and_of_this_source(static_triton, static_table, table):
    assert [static_table.key(row) for row in table] == list(static_triton.cases("light_conv"))
    stale = "run python benchmarks/static_triton.py: the kernels have changed since the table was written"
    assert {row["source"] for row in table} == {static_triton.source_digest("light_conv")}, stale


def test_table_shows_no_spills_and_no_shared_memory(table):
    for row in table:
        assert row["stack_bytes"] == row["spill_bytes"] == 0, row
        assert row["shared_bytes"] == 0 or row["kernel"] == "light_conv_terms", row


@pytest.mark.parametrize(
    "kernel, target, dtype, D, K, form",
    [
        ("light_conv_fwd", 80, "bfloat16", 64, 9, "packed"),
        ("light_conv_fwd", 90, "bfloat16", 64, 9, "padded"),
        ("light_conv_fwd", 100, "bfloat16", 48, 9, "padded"),
        ("light_conv_fwd", 90, "float32", 48, 9, "padded"),
        ("light_conv_fwd", 80, "float32", 64, 9, "padded"),
        ("light_conv_bwd", 80, "bfloat16", 48, 9, "padded"),
        ("light_conv_bwd", 90, "bfloat16", 64, 9, "packed"),
        ("light_conv_bwd", 100, "float32", 64, 9, "padded"),
        ("light_conv_bwd", 90, "float32", 48, 9, "padded"),
        ("light_conv_terms", 80, "bfloat16", 64, 31, "padded"),
        ("light_conv_terms", 90, "bfloat16", 64, 31, "padded"),
        ("light_conv_terms", 100, "bfloat16", 64, 31, "padded"),
    ],
)
def test_compiles_without_spills_and_loads_16_bytes(
    static_triton, static_table, table, kernel, target, dtype, D, K, form
):
    case = {"op": "light_conv", "kernel": kernel, "target": target, "dtype": dtype, "D": D, "K": K, "form": form}
    compiled = static_triton.compile_case(**case)
    assert compiled.stack_bytes == compiled.spill_bytes == 0
    (row,) = (row for row in table if static_table.key(row) == case)
    if row["compiler"] == static_triton.COMPILER:
        assert (compiled.registers, compiled.shared_bytes) == (row["registers"], row["shared_bytes"])
    if kernel == "light_conv_terms":
        return
    assert compiled.shared_bytes == 0
    group = 4
    rows = {"light_conv_fwd": group + K - 1, "light_conv_bwd": 2 * (group + K - 1) + group}[kernel]
    assert len(re.findall(r"ld\.global\S*\.v4\.b32", compiled.ptx)) == rows
    assert len(re.findall(r"st\.global\S*\.v4\.b32", compiled.ptx)) == group


def test_no_size_or_stride_compiles_a_kernel_anew():
    from bertkernels.kernels import light_conv_kernels as kernels

    for kernel in (
        kernels.light_conv_fwd_kernel,
        kernels.light_conv_bwd_kernel,
        kernels.light_conv_terms_kernel,
    ):
        numbers = [p for p in kernel.params if not p.is_constexpr and not p.name.startswith("p_")]
        assert all(p.do_not_specialize and p.annotation in ("int32", "int64", "i32", "i64") for p in numbers)
        assert {p.name for p in kernel.params if p.is_constexpr}.isdisjoint({"B", "T", "batches", "tokens"})
        assert all(p.do_not_specialize for p in kernel.params if p.name in ("p_lengths", "p_cu_seqlens"))
