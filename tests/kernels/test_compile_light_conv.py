"""The Triton kernels of light_conv compiled for GPUs that need not be there, and the committed table of the outcome."""

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "static_triton.py"
_SPEC = importlib.util.spec_from_file_location("static_triton", _SCRIPT)
static_triton = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(static_triton)

MEASURED = ("registers", "shared_bytes", "spill_bytes", "triton", "source")


@pytest.fixture(scope="module")
def table():
    return [json.loads(line) for line in static_triton.RESULTS.read_text(encoding="utf-8").splitlines()]


def key(row):
    return {name: value for name, value in row.items() if name not in MEASURED}


def test_table_is_complete_and_of_this_source(table):
    assert [key(row) for row in table] == list(static_triton.cases())
    stale = "run python benchmarks/static_triton.py: the kernels have changed since the table was written"
    assert {row["source"] for row in table} == {static_triton.source_digest()}, stale


def test_table_shows_no_spills_and_no_shared_memory(table):
    for row in table:
        assert row["spill_bytes"] == 0, row
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
def test_compiles_without_spills_and_loads_16_bytes(table, kernel, target, dtype, D, K, form):
    compiled = static_triton.compile_case(kernel, target, dtype, D, K, form)
    assert compiled.spill_bytes == 0
    case = {"kernel": kernel, "target": target, "dtype": dtype, "D": D, "K": K, "form": form}
    (row,) = (row for row in table if key(row) == case)
    if row["triton"] == triton.__version__:
        assert (compiled.registers, compiled.shared_bytes) == (row["registers"], row["shared_bytes"])
    if kernel == "light_conv_terms":
        return
    assert compiled.shared_bytes == 0
    group = 4
    rows = {"light_conv_fwd": group + K - 1, "light_conv_bwd": 2 * (group + K - 1) + group}[kernel]
    assert len(re.findall(r"ld\.global\S*\.v4\.b32", compiled.ptx)) == rows
    assert len(re.findall(r"st\.global\S*\.v4\.b32", compiled.ptx)) == group


def test_no_size_or_stride_compiles_a_kernel_anew():
    from bertkernels.kernels import light_conv

    for kernel in (
        light_conv.light_conv_fwd_kernel,
        light_conv.light_conv_bwd_kernel,
        light_conv.light_conv_terms_kernel,
    ):
        numbers = [p for p in kernel.params if not p.is_constexpr and not p.name.startswith("p_")]
        assert all(p.do_not_specialize and p.annotation in ("int32", "int64", "i32", "i64") for p in numbers)
        assert {p.name for p in kernel.params if p.is_constexpr}.isdisjoint({"B", "T", "batches", "tokens"})
