"""Turns the CPU cases of `bertkernels.bench` into pytest-benchmark tests: one a case, mode and peer, grouped by case.

A module here names its op in OP; `pytest benchmarks/light_conv.py -k "base and B8"` runs some of its cases.
`bertkernels bench` measures the same with the peers taking turns, also on GPUs, and writes the results that the tables
are made of.
"""

from dataclasses import replace

import pytest

from bertkernels.bench import ENCODERS
from bertkernels.bench.case import BACKWARD, BOTH, FORWARD, TIMES, Case
from bertkernels.bench.measure import ready_peers
from bertkernels.bench.select import DTYPES, bench_of, select_cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "peer" not in metafunc.fixturenames:
        return
    parameters = [
        pytest.param(case, mode, peer, id=f"{_name(case)}-B{case.batch}-T{case.tokens}-{mode}-{peer}")
        for case in select_cases([metafunc.module.OP])
        if case.record == TIMES
        for mode in ((BACKWARD, BOTH) if case.mode == BOTH else (FORWARD,))
        for peer in bench_of(case).names(case)
    ]
    metafunc.parametrize(("ready", "mode", "peer"), parameters, indirect=["ready"], scope="module")


def _name(case: Case) -> str:
    dtype = None if case.dtype == DTYPES["cpu"] else case.dtype
    return "-".join(filter(None, (case.size, case.text, dtype)))


@pytest.fixture(scope="module")
def ready(request):
    """A case with its peers, which agree, and those that could not be compiled."""
    with ready_peers(request.param) as (peers, left_out):
        yield request.param, peers, left_out


@pytest.fixture
def time_peer(benchmark, ready, mode, peer):
    """Calls the peer as often as pytest-benchmark wants to; an encoder three times. Before each backward pass, the
    forward pass that it belongs to runs untimed."""
    case, peers, left_out = ready
    if peer in left_out:
        pytest.skip(f"{peer} cannot be compiled here: {left_out[peer]}")
    benchmark.group = replace(case, mode=mode).label

    def run() -> None:
        timed = peers[peer]
        rounds = 3 if case.op in ENCODERS else 20
        if mode == BACKWARD:
            benchmark.pedantic(timed.backward, setup=lambda: ((timed.forward(),), {}), rounds=rounds, warmup_rounds=1)
        elif case.op in ENCODERS:
            benchmark.pedantic(timed.call, rounds=rounds, warmup_rounds=1)
        else:
            benchmark(timed.call)

    return run
