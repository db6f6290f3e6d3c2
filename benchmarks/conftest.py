"""Turns the CPU cases of `bertkernels.bench` into pytest-benchmark tests: one a case and peer, grouped by case.

A module here names its op in OP; `pytest benchmarks/light_conv.py -k "base and B8"` runs some of its cases.
`bertkernels bench` measures the same with the peers taking turns, also on GPUs, and writes the results that the tables
are made of.
"""

import pytest

from bertkernels.bench.measure import ready_peers
from bertkernels.bench.select import bench_of, select_cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "peer" not in metafunc.fixturenames:
        return
    parameters = [
        pytest.param(case, peer, id=f"{case.size}-B{case.batch}-T{case.tokens}-{case.mode}-{peer}")
        for case in select_cases([metafunc.module.OP])
        for peer in bench_of(case).names(case)
    ]
    metafunc.parametrize(("ready", "peer"), parameters, indirect=["ready"], scope="module")


@pytest.fixture(scope="module")
def ready(request):
    """A case with its peers, which agree, and those that could not be compiled."""
    with ready_peers(request.param) as (peers, left_out):
        yield request.param, peers, left_out


@pytest.fixture
def time_peer(benchmark, ready, peer):
    """Calls the peer as often as pytest-benchmark wants to."""
    case, peers, left_out = ready
    if peer in left_out:
        pytest.skip(f"{peer} cannot be compiled here: {left_out[peer]}")
    benchmark.group = case.label

    def run() -> None:
        if case.op == "encoder":
            benchmark.pedantic(peers[peer].call, rounds=3, warmup_rounds=1)
        else:
            benchmark(peers[peer].call)

    return run
