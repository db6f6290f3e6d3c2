"""The Triton kernels of mixed_attention compiled for GPUs that need not be there; their table has a test of its own."""

import importlib
import os
import re
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FWD, BWD_QUERY, BWD_KEY = "mixed_attention_fwd", "mixed_attention_bwd_query", "mixed_attention_bwd_key"


@pytest.fixture(scope="module")
def static_triton():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("static_triton")


PRODUCTS = {80: r"mma\.sync", 90: r"wgmma\.mma_async", 100: r"tcgen05\.mma\."}


@pytest.mark.parametrize(
    "kernel, target, D, form, options",
    [
        (FWD, 80, 48, "packed", "dropout"),
        (FWD, 90, 64, "packed", ""),
        (FWD, 100, 64, "padded", "bias"),
        (BWD_QUERY, 90, 64, "packed", "dropout"),
        (BWD_KEY, 80, 64, "packed", "dropout"),
        (BWD_KEY, 90, 64, "packed", ""),
        (BWD_KEY, 90, 48, "packed", ""),
        (BWD_KEY, 100, 64, "packed", "dropout"),
    ],
)
def test_compiles_to_tensor_cores_and_asynchronous_copies(static_triton, kernel, target, D, form, options):
    case = dict(kernel=kernel, target=target, dtype="bfloat16", D=D, K=9, form=form, options=options)
    compiled = static_triton.compile_case("mixed_attention", **case)
    assert compiled.stack_bytes == compiled.spill_bytes == 0
    (row,) = (
        row
        for row in static_triton.static_table.read(static_triton.static_table.TRITON)
        if static_triton.static_table.key(row) == {"op": "mixed_attention", **case}
    )
    if row["compiler"] == static_triton.COMPILER:
        assert (compiled.registers, compiled.shared_bytes) == (row["registers"], row["shared_bytes"])
    assert re.search(PRODUCTS[target], compiled.ptx)
    assert re.search(r"cp\.async\.cg\S*\s*\[[^\]]+\]\s*,\s*\[[^\]]+\]\s*,\s*(0x10|16)", compiled.ptx)


@pytest.mark.parametrize("kernel", [FWD, BWD_QUERY, BWD_KEY])
def test_no_size_or_stride_compiles_a_kernel_anew(kernel):
    from bertkernels.kernels import mixed_attention_kernels

    function = getattr(mixed_attention_kernels, f"{kernel}_kernel")
    numbers = [p for p in function.params if not p.is_constexpr and not p.name.startswith("p_")]
    assert {p.annotation for p in numbers if p.name == "scale"} == {"fp64"}
    integers = [p for p in numbers if p.name != "scale"]
    assert all(p.do_not_specialize and p.annotation in ("int32", "int64", "i32", "i64") for p in integers)
    assert {p.name for p in function.params if p.is_constexpr}.isdisjoint({"B", "T", "H", "N", "tokens", "batches"})
    varying = ("p_lengths", "p_cu_seqlens", "p_seed", "p_key_bias")
    assert all(p.do_not_specialize for p in function.params if p.name in varying)
