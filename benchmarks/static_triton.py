"""What the compiler says of the Triton kernels: registers, shared memory, spills, for each GPU target. Needs no GPU.

python benchmarks/static_triton.py           compiles them and writes benchmarks/results/static_triton.jsonl
python benchmarks/static_triton.py [op …]    replaces these ops' lines only
"""

import sys
from collections.abc import Iterator

import static_table
import torch
import triton
import triton.language as tl
from static_table import ROOT, TARGETS, Row

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from static_cases import bias_activation, depthwise_conv  # noqa: E402

from bertkernels.kernels import light_conv, light_conv_kernels  # noqa: E402
from bertkernels.kernels.dtypes import triton_dtype  # noqa: E402
from bertkernels.kernels.offline import Compiled, compile_kernel  # noqa: E402

COMPILER = f"triton {triton.__version__}"


def light_conv_cases() -> Iterator[Row]:
    for kernel in ("light_conv_fwd", "light_conv_bwd"):
        for target in TARGETS:
            for dtype, D, K, form in (
                ("bfloat16", 64, 9, "padded"),
                ("bfloat16", 64, 9, "packed"),
                ("bfloat16", 48, 9, "padded"),
                ("float32", 64, 9, "padded"),
                ("float32", 48, 9, "padded"),
            ):
                yield {"kernel": kernel, "target": target, "dtype": dtype, "D": D, "K": K, "form": form}
        for dtype, K in (("float16", 9), ("float64", 9), ("bfloat16", 31)):
            yield {"kernel": kernel, "target": 90, "dtype": dtype, "D": 64, "K": K, "form": "packed"}
    for target in TARGETS:
        yield {"kernel": "light_conv_terms", "target": target, "dtype": "bfloat16", "D": 64, "K": 31, "form": "padded"}


def compile_light_conv(kernel: str, target: int, dtype: str, D: int, K: int, form: str) -> Compiled:
    dtype = getattr(torch, dtype)
    function = getattr(light_conv_kernels, f"{kernel}_kernel")
    if kernel == "light_conv_terms":
        constants = light_conv.terms_configuration(dtype, K)
        return compile_kernel(
            function, target, {"p_terms": constants["WIDE"], "p_logits": triton_dtype(dtype)}, constants
        )
    constants = light_conv.configuration(kernel, torch.device("cpu"), dtype, D, K)
    constants = {**constants, "UNIT": 16, "SOFTMAX": True, "LEFT": (K - 1) // 2}
    pointers = {
        **{parameter.name: triton_dtype(dtype) for parameter in function.params if parameter.name.startswith("p_")},
        "p_terms": constants["WIDE"] if K > constants["TAPS"] else None,
        "p_lengths": None,
        "p_cu_seqlens": tl.int32 if form == "packed" else None,
    }
    return compile_kernel(function, target, pointers, constants)


OPS = {
    "bias_activation": (bias_activation.cases, bias_activation.compile_case),
    "depthwise_conv": (depthwise_conv.cases, depthwise_conv.compile_case),
    "light_conv": (light_conv_cases, compile_light_conv),
}


def cases(op: str) -> Iterator[Row]:
    """Every row of an op without what comes of it."""
    for case in OPS[op][0]():
        yield {"op": op, **case}


def compile_case(op: str, **case: object) -> Compiled:
    return OPS[op][1](**case)


def source_digest(op: str) -> str:
    return static_table.source_digest(ROOT / "kernels" / f"{op}.py")


def compile_row(case: Row) -> Row:
    compiled = compile_case(**case)
    return {
        **case,
        "registers": compiled.registers,
        "shared_bytes": compiled.shared_bytes,
        "stack_bytes": compiled.stack_bytes,
        "spill_bytes": compiled.spill_bytes,
        "compiler": COMPILER,
        "source": source_digest(case["op"]),
    }


def main(wanted: list[str]) -> None:
    unknown = [op for op in wanted if op not in OPS]
    if unknown:
        sys.exit(f"unknown op {unknown[0]!r}; known: {', '.join(OPS)}")
    kept = static_table.read(static_table.TRITON) if wanted else []
    rows = []
    for op in OPS:
        compile_now = not wanted or op in wanted
        rows += map(compile_row, cases(op)) if compile_now else [row for row in kept if row["op"] == op]
    static_table.write(static_table.TRITON, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
