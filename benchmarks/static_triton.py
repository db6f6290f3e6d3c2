"""What the compiler tells about the Triton kernels, without a GPU: registers, shared memory, spills.

    python benchmarks/static_triton.py     writes benchmarks/results/static_triton.jsonl, a line a compiled kernel

These are facts about the code, not timings.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import triton
import triton.language as tl

_CHECKOUT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(_CHECKOUT))

from bertkernels.kernels import light_conv  # noqa: E402
from bertkernels.kernels.offline import Compiled, compile_kernel  # noqa: E402

RESULTS = _CHECKOUT / "benchmarks" / "results" / "static_triton.jsonl"
TARGETS = (80, 90, 100)
DTYPES = {
    "bfloat16": (torch.bfloat16, tl.bfloat16),
    "float16": (torch.float16, tl.float16),
    "float32": (torch.float32, tl.float32),
    "float64": (torch.float64, tl.float64),
}


def cases() -> Iterator[dict]:
    """Every line's key: kernel, target, dtype, D, K, form."""
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


def compile_case(kernel: str, target: int, dtype: str, D: int, K: int, form: str) -> Compiled:
    torch_dtype, element = DTYPES[dtype]
    if kernel == "light_conv_terms":
        constants = light_conv.terms_configuration(torch_dtype, K)
        pointers = {"p_terms": constants["WIDE"], "p_logits": element}
        return compile_kernel(light_conv.light_conv_terms_kernel, target, pointers, constants)
    constants = light_conv.configuration(kernel, torch.device("cpu"), torch_dtype, D, K)
    constants = {**constants, "UNIT": 16, "SOFTMAX": True, "LEFT": (K - 1) // 2}
    function = getattr(light_conv, f"{kernel}_kernel")
    pointers = {parameter.name: element for parameter in function.params if parameter.name.startswith("p_")}
    pointers["p_terms"] = constants["WIDE"] if K > constants["TAPS"] else None
    pointers["p_lengths"] = None
    pointers["p_cu_seqlens"] = tl.int32 if form == "packed" else None
    return compile_kernel(function, target, pointers, constants)


def source_digest() -> str:
    """Changes with the kernels' code, not with comments between its lines."""
    texts = ((_CHECKOUT / "kernels" / name).read_text(encoding="utf-8") for name in ("light_conv.py", "sequences.py"))
    lines = (line.strip() for text in texts for line in text.splitlines())
    code = "\n".join(line for line in lines if line and not line.startswith("#"))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def main() -> None:
    lines = []
    for case in cases():
        compiled = compile_case(**case)
        usage = {
            "registers": compiled.registers,
            "shared_bytes": compiled.shared_bytes,
            "spill_bytes": compiled.spill_bytes,
        }
        lines.append(json.dumps({**case, **usage, "triton": triton.__version__, "source": source_digest()}))
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
