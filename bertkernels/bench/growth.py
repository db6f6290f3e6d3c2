"""How an op's time grows with the number of tokens."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from .case import Case
from .op_bench import COPY, KERNEL
from .select import bench_of
from .timing import interleaved

_ROUNDS, _SECONDS = 5, 3.0


def tokens_up_to(most: int) -> list[int]:
    """Powers of two from 128 on."""
    return [2**n for n in range(7, most.bit_length())]


def measure_growth(case: Case) -> dict[str, list[float]]:
    """Median microseconds of our op, its kernel alone where it is one kernel, and a copy of the same bytes, for one
    sequence of each of `tokens_up_to(case.tokens)`: all of these in turns."""
    bench, calls = bench_of(case), {}
    names = [name for name in bench.names(case) if name in (bench.best(case), KERNEL, COPY)]
    lengths = tokens_up_to(case.tokens)
    for tokens in lengths:
        peers = bench.peers(replace(case, tokens=tokens), only=names)
        calls |= {(name, tokens): peers[name].call for name in names}
    times = interleaved(calls, rounds=_ROUNDS, seconds=_SECONDS, device=case.device)
    return {name: [round(times[name, tokens].p50, 2) for tokens in lengths] for name in names}


def slope(tokens: Sequence[int], times: Sequence[float]) -> float:
    """Of log(time) over log(T), by least squares: 1 where time is linear in T."""
    x, y = ([math.log(value) for value in values] for values in (tokens, times))
    middle, level = fmean(x), fmean(y)
    return sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)
