"""The static table of the Triton kernels is complete, of this source, true, and shows what the kernels are meant to be.

That is: nothing spilled, products on each GPU's newest tensor cores, and 16 bytes a load where bytes bound a kernel.
"""

import importlib
import os
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(BENCHMARKS)
    static_triton = importlib.import_module("static_triton")
static_table, TARGETS = static_triton.static_table, static_triton.static_table.TARGETS
ROWS = static_table.read(static_table.TRITON)
STALE = "run make static: the kernels have changed since the table was written"
PRODUCTS = ("grouped_linear_fwd", "grouped_linear_bwd_weight", "span_conv_fwd", "span_conv_bwd")
PRODUCTS += ("mixed_attention_fwd", "mixed_attention_bwd_query", "mixed_attention_bwd_key")
HALF = ("bfloat16", "float16")


def rows_of(*kernels, **options):
    found = [row for row in ROWS if row["kernel"] in kernels and options.items() <= row.items()]
    assert found, (kernels, options)
    return found


@pytest.mark.parametrize("op", static_triton.OPS)
def test_table_is_complete_and_of_this_source(op):
    rows = [row for row in ROWS if row["op"] == op]
    assert [static_table.key(row) for row in rows] == list(static_triton.cases(op)), STALE
    assert {row["source"] for row in rows} == {static_triton.made_with(op)["source"]}, STALE
    assert {row["op"] for row in ROWS} == set(static_triton.OPS)


def test_every_kernel_is_in_the_table():
    assert {f"{row['kernel']}_kernel" for row in ROWS} == {kernel.__name__ for kernel in kernels()}


def test_only_what_changed_is_compiled_anew(monkeypatch):
    made_with = {op: {name: ROWS[0][name] for name in static_table.MADE_WITH} for op in static_triton.OPS}
    known = [{**row, **made_with[row["op"]]} for row in ROWS]
    monkeypatch.setattr(static_triton, "made_with", made_with.__getitem__)
    assert static_triton.to_compile(known) == []
    assert static_triton.to_compile(known[1:]) == [static_table.key(known[0])]
    other = {**known[3], "source": "of other code"}
    assert static_triton.to_compile([*known[:3], other, *known[4:]]) == [static_table.key(other)]
    made_with["shares"] = {**made_with["shares"], "compiler": "triton 0"}
    assert static_triton.to_compile(known) == list(static_triton.cases("shares"))


@pytest.mark.parametrize("op", static_triton.OPS)
def test_table_shows_no_spills(op):
    rows = [row for row in ROWS if row["op"] == op and (row["stack_bytes"] or row["spill_bytes"])]
    assert rows == [], "\n".join(f"{static_table.key(row)}: {row['spill_bytes']} bytes" for row in rows)


def examples():
    """A case of every kernel, the targets in turn."""
    names = dict.fromkeys(row["kernel"] for row in ROWS)
    for number, kernel in enumerate(names):
        target = TARGETS[number % len(TARGETS)]
        row = next(row for row in ROWS if row["kernel"] == kernel and row["target"] == target)
        yield pytest.param(row, id=f"{kernel}-{target}")


@pytest.mark.slow
@pytest.mark.parametrize("row", list(examples()))
def test_compiles_as_the_table_says(row):
    compiled = static_triton.compile_row(static_table.key(row))
    if compiled["compiler"] != row["compiler"]:
        pytest.skip(f"compiles; the table is of {row['compiler']}, here is {compiled['compiler']}")
    assert compiled == row, STALE


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("target, newest", [(80, "HMMA"), (90, "HGMMA"), (100, "UTCHMMA")])
def test_products_are_tensor_cores_work(target, newest, dtype):
    for row in ROWS:
        if row["kernel"] in PRODUCTS and (row["target"], row["dtype"]) == (target, dtype):
            # Hopper's and Blackwell's take 64 rows at least, which few logits a token, some products' rows, are not
            few_rows = row["kernel"] == "span_conv_bwd" and row["H"] * row["K"] < 48
            assert set(row["tensor"]) == ({newest, "HMMA"} if few_rows else {newest}), row


def test_every_product_is_compiled_for_every_target():
    for kernel in PRODUCTS:
        assert {row["target"] for row in rows_of(kernel, dtype="bfloat16")} == set(TARGETS)


def test_fp32_is_not_rounded_for_tensor_cores():
    for row in rows_of(*PRODUCTS, dtype="float32"):
        assert row["tensor"] == {}, row
    for row in rows_of(*PRODUCTS, dtype="float64"):
        assert set(row["tensor"]) == {"DMMA"}, row


@pytest.mark.parametrize("kernel", ["grouped_linear_fwd", "mixed_attention_fwd", "mixed_attention_bwd_key"])
def test_matrices_are_copied_16_bytes_at_a_time_past_the_registers(kernel):
    """But a part of 16 of 48 channels, of which a tile of few rows has less than 16 bytes a thread."""
    for dtype in HALF:
        for row in rows_of(kernel, dtype=dtype):
            assert row["copies"].get("LDGSTS.16"), row
            assert "LDGSTS.8" not in row["copies"] or row["D"] == 48, row


def test_light_conv_moves_16_bytes_at_a_time_and_needs_no_shared_memory():
    """A thread works on a group of tokens; it reads K - 1 around them as well, backward of two tensors."""
    for row in rows_of("light_conv_fwd", "light_conv_bwd", K=9):
        group = 2 if row["dtype"] == "float64" else 4
        around = group + row["K"] - 1
        loads = around if row["kernel"] == "light_conv_fwd" else 2 * around + group
        assert (row["loads"]["16"], row["stores"]["16"], row["shared_bytes"]) == (loads, group, 0), row


@pytest.mark.parametrize("kernel, tensors", [("bias_activation_fwd", 1), ("bias_activation_bwd", 2)])
def test_bias_activation_moves_16_bytes_at_a_time(kernel, tensors):
    """Two rows a thread and tensor, and perhaps the bias."""
    for row in rows_of(kernel):
        read = 1 if row["activation"] is None else tensors  # without an activation, x has no say in its gradient
        assert row["loads"]["16"] in (2 * read, 2 * read + 1) and row["stores"]["16"] == 2, row


@pytest.mark.parametrize("kernel, read, written", [("glu_fwd", 2, 1), ("glu_bwd", 3, 2)])
def test_glu_moves_16_bytes_at_a_time(kernel, read, written):
    """One row a thread and tensor; a bias is read once, some of it."""
    for row in rows_of(kernel):
        assert row["loads"]["16"] in range(read, read + 3) and row["stores"]["16"] == written, row


@pytest.mark.parametrize("kernel, tensors", [("residual_norm_fwd", 2), ("residual_norm_bwd", 3)])
def test_residual_norm_moves_16_bytes_at_a_time(kernel, tensors):
    """A warp reads 512 bytes of each tensor at once, and of what is left of a row as much as a power of two holds."""
    for row in rows_of(kernel):
        if row["C"] < 2048 and row["dtype"] != "float64":
            whole = row["C"] * (4 if row["dtype"] == "float32" else 2) // 512
            written = 2 if row["kernel"] == "residual_norm_bwd" and row["dropout"] else 1
            assert row["loads"]["16"] == tensors * whole and row["stores"]["16"] == written * whole, row


@pytest.mark.parametrize("kernel, loads", [("depthwise_conv_fwd", 24), ("depthwise_conv_bwd", 40)])
def test_depthwise_conv_moves_a_line_a_warp_and_row(kernel, loads):
    """A thread moves two channels of 16 rows and the 8 around them, and in backward of 16 rows of x."""
    for row in rows_of(kernel, dtype="bfloat16", K=9, form="padded"):
        assert (row["loads"]["4"], row["stores"]["4"]) == (loads, 16), row


def kernels():
    from bertkernels import kernels

    for op in static_triton.OPS:
        module = importlib.import_module(f"{kernels.__name__}.{op if op == 'shares' else f'{op}_kernels'}")
        yield from (value for name, value in vars(module).items() if name.endswith("_kernel"))
