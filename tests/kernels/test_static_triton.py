"""The static table of every op's Triton kernels is complete, of this source, true, and shows no spills."""

import importlib
import os
import re
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(BENCHMARKS)
    static_triton = importlib.import_module("static_triton")
static_table = static_triton.static_table
ROWS = static_table.read(static_table.TRITON)


def examples():
    """The first case of every kernel for every target, but for ops with a test of their own here."""
    for op in static_triton.OPS:
        if not Path(__file__).with_name(f"test_compile_{op}.py").exists():
            first = {(case["kernel"], case["target"]): case for case in reversed(list(static_triton.cases(op)))}
            yield from first.values()


@pytest.mark.parametrize("op", static_triton.OPS)
def test_table_is_complete_and_of_this_source(op):
    rows = [row for row in ROWS if row["op"] == op]
    assert [static_table.key(row) for row in rows] == list(static_triton.cases(op))
    stale = "run python benchmarks/static_triton.py: the kernels have changed since the table was written"
    assert {row["source"] for row in rows} == {static_triton.source_digest(op)}, stale


@pytest.mark.parametrize("op", static_triton.OPS)
def test_table_shows_no_spills(op):
    for row in ROWS:
        assert row["op"] != op or row["stack_bytes"] == row["spill_bytes"] == 0, row


@pytest.mark.parametrize("case", [pytest.param(case, id="-".join(map(str, case.values()))) for case in examples()])
def test_compiles_as_the_table_says(case):
    compiled = static_triton.compile_case(**case)
    assert compiled.stack_bytes == compiled.spill_bytes == 0
    (row,) = (row for row in ROWS if static_table.key(row) == case)
    if row["compiler"] == static_triton.COMPILER:
        assert (compiled.registers, compiled.shared_bytes) == (row["registers"], row["shared_bytes"])


def kernels():
    from bertkernels.kernels import bias_activation_kernels, depthwise_conv_kernels, shares

    for module in (bias_activation_kernels, depthwise_conv_kernels, shares):
        yield from (value for name, value in vars(module).items() if name.endswith("_kernel"))


@pytest.mark.parametrize("kernel", kernels(), ids=lambda kernel: kernel.__name__)
def test_no_size_or_stride_compiles_a_kernel_anew(kernel):
    numbers = [p for p in kernel.params if not p.is_constexpr and not p.name.startswith("p_")]
    assert numbers and all(p.do_not_specialize and p.annotation in ("int32", "int64", "i32", "i64") for p in numbers)
    assert {p.name for p in kernel.params if p.is_constexpr}.isdisjoint({"B", "T", "M", "rows", "tokens", "blocks"})


@pytest.mark.parametrize(
    "C, dtype, width", [(1536, "bfloat16", "v4.b32"), (312, "bfloat16", "v4.b32"), (1536, "float64", "v2.b64")]
)
@pytest.mark.parametrize("kernel, loads", [("bias_activation_fwd", 2), ("bias_activation_bwd", 4)])
def test_bias_activation_moves_16_bytes_at_a_time(kernel, loads, C, dtype, width):
    """Two rows a thread and tensor, bias and shares aside."""
    case = {"kernel": kernel, "target": 90, "dtype": dtype, "C": C, "activation": "gelu"}
    ptx = static_triton.compile_case("bias_activation", **case).ptx
    tail = r"\S*\." + re.escape(width)
    assert len(re.findall("ld.global" + tail, ptx)) in (loads, loads + 1)
    assert len(re.findall("st.global" + tail, ptx)) == 2


@pytest.mark.parametrize("C", [768, 384, 256])
@pytest.mark.parametrize("kernel, loads", [("depthwise_conv_fwd", 24), ("depthwise_conv_bwd", 40)])
def test_depthwise_conv_moves_a_line_a_warp_and_row(kernel, loads, C):
    """A thread moves two channels of 16 rows and the 8 around them, and in backward of 16 rows of x."""
    case = {"kernel": kernel, "target": 90, "dtype": "bfloat16", "C": C, "K": 9, "form": "padded"}
    ptx = static_triton.compile_case("depthwise_conv", **case).ptx
    assert len(re.findall(r"ld\.global\S*\.b32", ptx)) == loads
    assert len(re.findall(r"st\.global\S*\.b32", ptx)) == 16
