"""The GPU's limits on what can be known without one: their peers, operations and arithmetic."""

from dataclasses import replace

import pytest
import torch

from bertkernels.bench import gpu_limits, limits
from bertkernels.bench.case import BOTH, FORWARD, Case, dimensions
from bertkernels.bench.measure import Measurement
from bertkernels.bench.select import bench_of
from bertkernels.bench.timing import Timing
from bertkernels.cli.main import main


def test_every_limit_names_peers_that_there_are():
    for limit in gpu_limits.LIMITS:
        bench = bench_of(limit.case)
        peers = (limit.numerator, limit.denominator)
        names = {bench.best(limit.case) if peer == limits.OURS else peer for peer in peers}
        assert limit.case.device == "cuda" and limit.case.dtype == "bfloat16"
        assert names <= set(bench.names(limit.case))


@pytest.mark.parametrize("size", ["small", "base"])
@pytest.mark.parametrize("batch, tokens", [(1, 16), (2, 8)])
def test_operations_follow_from_the_shapes(size, batch, tokens):
    """Counted by hand for 12 layers: projections, span convolution, attention, output, feed-forward."""
    model, rows = dimensions(size), batch * tokens
    channels, width = model.channels, model.heads * model.head_width
    a_layer = 5 * rows * channels * width  # query, key, value, the convolution's values, and its pointwise half
    a_layer += rows * width * model.heads * model.taps  # kernels
    a_layer += 2 * batch * model.heads * tokens * tokens * model.head_width
    a_layer += rows * 2 * width * channels + 2 * rows * channels * model.intermediate
    embeddings = rows * 128 * channels if size == "small" else 0
    products = 12 * a_layer + embeddings
    case = Case("encoder", size, batch, tokens, FORWARD)
    assert gpu_limits.operations(case) == 2 * products
    assert gpu_limits.operations(replace(case, mode=BOTH)) == 6 * products


def on_cpu(bound_function, monkeypatch, times):
    """The bound for a small model, with these times by name."""
    monkeypatch.setattr(gpu_limits, "_SQUARE", 16)

    def fake(calls, **_):
        for call in calls.values():
            call()
        return {name: times[name] for name in calls}

    monkeypatch.setattr(gpu_limits, "interleaved", fake)
    return bound_function(Case("encoder", "small", 1, 8, BOTH))


def timing(microseconds, peak_bytes=None):
    return Timing(microseconds, microseconds, microseconds, 1, peak_bytes)


def test_a_step_is_compared_with_its_operations_at_the_products_rate(monkeypatch):
    operations = gpu_limits.operations(Case("encoder", "small", 1, 8, BOTH))
    ratio = on_cpu(gpu_limits._over_floor, monkeypatch, {"step": timing(operations), "product": timing(16**3)})
    assert ratio == pytest.approx(2)  # the product does two operations a microsecond


def test_bert_and_memory(monkeypatch):
    assert on_cpu(gpu_limits._bert_over_ours, monkeypatch, {"ours": timing(2), "bert": timing(3)}) == 1.5
    times = {"bertkernels encoder": timing(1, 40), "Hugging Face": timing(1, 100)}
    assert on_cpu(gpu_limits._memory_share, monkeypatch, times) == 0.4


def test_all_are_checked_and_printed(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    times = {"Hugging Face": 300, "Hugging Face, compiled": 150, "copy of the same bytes": 85}

    def fake(case, effort, threads, only):
        return Measurement(case, {peer: timing(times.get(peer, 100)) for peer in only}, frozenset(), {})

    monkeypatch.setattr(limits, "measure", fake)
    bounds = [replace(bound, measured=lambda bound=bound: bound.bound) for bound in gpu_limits.BOUNDS]
    monkeypatch.setattr(gpu_limits, "BOUNDS", bounds)
    assert main(["bench", "--limits", "--device", "cuda"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()[2:]
    assert len(lines) == len(gpu_limits.LIMITS) + 6 and all(line.endswith("| ok |") for line in lines)
    assert any(
        line.startswith("| light_conv base B32·T512 forward bfloat16: copy of the same bytes ÷ ours | 0.85")
        for line in lines
    )
