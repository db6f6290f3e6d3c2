"""What Triton must not compile a kernel anew for: sizes, strides, and where a few numbers lie."""

import os

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)

from tests.kernels.launches import jitted_kernels  # noqa: E402


@pytest.mark.parametrize("kernel", jitted_kernels().values(), ids=lambda kernel: kernel.__name__)
def test_no_size_or_stride_compiles_a_kernel_anew(kernel):
    numbers = [p for p in kernel.params if not p.is_constexpr and not p.name.startswith("p_")]
    integers = [p for p in numbers if p.annotation in ("int32", "int64", "i32", "i64")]
    assert integers and all(p.do_not_specialize for p in integers)
    floats = [p for p in numbers if p not in integers]  # whose values compile nothing, while their type is given
    assert {p.name for p in floats} <= {"scale", "eps"} and {p.annotation for p in floats} <= {"float64", "fp64"}
    constants = {p.name for p in kernel.params if p.is_constexpr}
    assert constants.isdisjoint({"B", "T", "M", "N", "rows", "tokens", "batches", "blocks"})
    varying = ("p_lengths", "p_cu_seqlens", "p_seed")
    assert all(p.do_not_specialize for p in kernel.params if p.name in varying)
