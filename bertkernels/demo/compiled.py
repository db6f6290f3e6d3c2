"""Both models through torch.compile, timed beside their eager forms: `python -m bertkernels.demo.compiled`.

A process of its own, because a compilation cannot be stopped halfway: the demo ends this process when its time is up
and keeps the modes that are done. Prints one JSON line a mode.
"""

import argparse
import dataclasses
import json
import logging
import time
import warnings

import torch

from bertkernels.bench.timing import interleaved
from bertkernels.demo.convbert_small import MODES, calls, convbert_small, full_batch, patched_copy


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bertkernels.demo.compiled", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing a mode")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    device = torch.device(arguments.device)
    stock = convbert_small(arguments.seed, device)
    fused, _ = patched_copy(stock)
    ids = full_batch(stock, arguments.seed)
    models = {
        "stock": (stock, stock),
        "patched": (fused, fused),
        "stock compiled": (torch.compile(stock), stock),
        "patched compiled": (torch.compile(fused), fused),
    }
    for mode in MODES:
        timed = calls(mode, models, ids)
        compile_seconds = {name: _first_call(timed[name]) for name in timed if name.endswith("compiled")}
        times = interleaved(timed, rounds=1, seconds=arguments.seconds, warmup=1, device=device)
        times = {name: dataclasses.asdict(timing) for name, timing in times.items()}
        print(json.dumps({"mode": mode, "compile_seconds": compile_seconds, "times": times}), flush=True)


def _first_call(call) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
