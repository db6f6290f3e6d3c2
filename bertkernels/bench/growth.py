"""How an op's time grows with the number of tokens."""

import importlib
import math
from dataclasses import replace

import torch

from .case import FORWARD, Case
from .timing import interleaved

TOKENS = tuple(2**n for n in range(7, 17))  # 128 to 65,536


def growth(op: str, size: str = "base", device: str = "cpu") -> float:
    """Slope of log(time) over log(T) for one sequence of T tokens, by least squares: 1 where time is linear in T."""
    bench = importlib.import_module(f"bertkernels.bench.{op}").BENCH
    case = Case(op, size, 1, TOKENS[0], FORWARD, device=device)
    name = bench.best(case)
    calls = {tokens: bench.peers(replace(case, tokens=tokens), only=[name])[name].call for tokens in TOKENS}
    times = interleaved({str(tokens): call for tokens, call in calls.items()}, rounds=5, seconds=3.0, device=device)
    x = torch.tensor([math.log(tokens) for tokens in TOKENS], dtype=torch.float64)
    y = torch.tensor([math.log(times[str(tokens)].p50) for tokens in TOKENS], dtype=torch.float64)
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())
