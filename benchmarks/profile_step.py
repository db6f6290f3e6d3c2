"""Where the time of a training step goes: torch.profiler's table of operators and kernels, as text.

python benchmarks/profile_step.py [--size base] [--batch 32] [--tokens 512] [--device cuda]

Forward and backward of an encoder as `bertkernels bench` measures them, for Hugging Face's model and ours.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bertkernels.bench.case import BOTH, Case  # noqa: E402
from bertkernels.bench.encoder import BENCH, OURS  # noqa: E402
from bertkernels.bench.op_bench import HUGGING_FACE  # noqa: E402
from bertkernels.bench.select import DTYPES  # noqa: E402

ROWS = 40


def profile_step(case: Case, peer: str) -> str:
    """The table of one step after two that warm up, longest first."""
    call = BENCH.peers(case, only=[peer])[peer].call
    on_gpu = case.device == "cuda"
    for _ in range(2):
        call()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        call()
        if on_gpu:
            torch.cuda.synchronize()
    order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=80)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base", choices=("small", "medium-small", "base"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    options = parser.parse_args(argv)
    dtype = DTYPES[options.device]
    case = Case("encoder", options.size, options.batch, options.tokens, BOTH, dtype, options.device)
    for peer in (OURS, HUGGING_FACE):
        print(f"{case.label}: {peer}\n{profile_step(case, peer)}\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
