"""What Triton must not compile a kernel anew for: sizes, strides, and where a few numbers lie."""

import importlib
import os

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)


def kernels():
    for op in ("grouped_linear", "residual_norm", "span_conv"):
        module = importlib.import_module(f"bertkernels.kernels.{op}_kernels")
        yield from (value for name, value in vars(module).items() if name.startswith(op) and name.endswith("_kernel"))


@pytest.mark.parametrize("kernel", [*kernels()], ids=lambda kernel: kernel.__name__)
def test_no_size_or_stride_compiles_a_kernel_anew(kernel):
    numbers = [p for p in kernel.params if not p.is_constexpr and not p.name.startswith("p_")]
    assert numbers and all(p.do_not_specialize for p in numbers)
    floats = {p.name for p in numbers if p.annotation not in ("int32", "int64", "i32", "i64")}
    assert floats <= {"scale", "eps"} and {p.annotation for p in numbers if p.name in floats} <= {"float64", "fp64"}
    assert {p.name for p in kernel.params if p.is_constexpr}.isdisjoint({"B", "T", "M", "rows", "tokens", "blocks"})
    varying = ("p_lengths", "p_cu_seqlens", "p_seed")
    assert all(p.do_not_specialize for p in kernel.params if p.name in varying)
