"""What the compiler says of the Triton kernels, for each GPU target (`static_table`). Needs no GPU.

python benchmarks/static_triton.py    writes benchmarks/results/static_triton.jsonl, compiling what has changed since
"""

import functools
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

import static_cubin
import static_table
import triton
from static_table import ROOT, Row

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from static_cases import (  # noqa: E402
    bias_activation,
    depthwise_conv,
    glu,
    grouped_linear,
    light_conv,
    mixed_attention,
    residual_norm,
    shares,
    span_conv,
)

OPS = {
    "bias_activation": bias_activation,
    "depthwise_conv": depthwise_conv,
    "glu": glu,
    "grouped_linear": grouped_linear,
    "light_conv": light_conv,
    "mixed_attention": mixed_attention,
    "residual_norm": residual_norm,
    "shares": shares,
    "span_conv": span_conv,
}


def cases(op: str) -> Iterator[Row]:
    """Every line of an op without what comes of it."""
    for case in OPS[op].cases():
        yield {"op": op, **case}


@functools.cache
def made_with(op: str) -> Row:
    """The compiler, and a digest of the kernels, of how they are compiled and of how the outcome is read."""
    files = (f"kernels/{op}.py", f"benchmarks/static_cases/{op}.py", "kernels/offline.py", *static_table.READ_WITH)
    digest = static_table.source_digest(*(ROOT / file for file in files))
    return {"compiler": f"triton {triton.__version__}", "source": digest}


def compile_row(case: Row) -> Row:
    options = dict(case)
    op = options.pop("op")
    try:
        compiled = OPS[op].compile_case(**options)
    except Exception as error:
        raise RuntimeError(f"{json.dumps(case)} does not compile: {error}") from error
    (kernel,) = static_cubin.read(compiled.cubin).values()
    figures = static_table.figures(case["target"], kernel, compiled.shared_bytes, compiled.columns)
    return {**case, **figures, **made_with(op)}


def to_compile(known: Iterable[Row]) -> list[Row]:
    """The cases of which no line is known, or one of another source or compiler."""
    found = [static_table.key(row) for row in known if made_with(row["op"]).items() <= row.items()]
    return [case for op in OPS for case in cases(op) if case not in found]


def main() -> None:
    rows = [row for row in static_table.read(static_table.TRITON) if row["op"] in OPS]
    missing = to_compile(rows)
    rows = [row for row in rows if static_table.key(row) not in missing]
    failures = []
    try:
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            for done in as_completed([pool.submit(compile_row, case) for case in missing]):
                if done.exception() is not None:
                    failures.append(str(done.exception()))
                    continue
                rows.append(done.result())
                print(f"{rows[-1]['op']}: {rows[-1]['kernel']} for sm_{rows[-1]['target']}", file=sys.stderr)
    finally:  # a run that was stopped is taken up where it was
        order = [case for op in OPS for case in cases(op)]
        kept = [row for row in rows if static_table.key(row) in order]
        static_table.write(static_table.TRITON, sorted(kept, key=lambda row: order.index(static_table.key(row))))
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
