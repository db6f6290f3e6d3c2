"""Tuning light_conv under the interpreter, by fake times: what computes something else does not count."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from bertkernels.bench.timing import Timing  # noqa: E402
from bertkernels.kernels import tuning  # noqa: E402
from bertkernels.tune.recording import Recording, unwritten_memory_is_nan  # noqa: E402
from bertkernels.tune.search import search  # noqa: E402

DEVICE, DTYPE = torch.device("cpu"), torch.float32


def test_light_conv():
    from bertkernels.kernels import light_conv as kernels
    from bertkernels.ops import light_conv

    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 13, 2, 24, generator=generator)
    logits = torch.randn(1, 13, 2, 9, generator=generator)

    def chosen():
        return kernels.configuration("light_conv_fwd", DEVICE, DTYPE, 24, 9)

    def call():
        out = light_conv(values, logits, impl="triton")
        if chosen()["GROUP"] == 16:  # as if these groups left out the last token
            out[:, -1] = float("nan")
        return (out,)

    def record(call):
        with unwritten_memory_is_nan():
            results = call()
        time = 1 / chosen()["GROUP"] / (1 + chosen()["ROWS"])
        return Recording(lambda: time, results, 0)

    def timer(calls, rounds, seconds):
        return {name: Timing(replay(), replay(), replay(), rounds) for name, replay in calls.items()}

    rule = chosen()
    right = [{"GROUP": group, "ROWS": 32, "CHUNK": 8, "num_warps": 1} for group in (2, 8)]
    wrong, failing = {"GROUP": 16}, {"GROUP": 32, "CHUNK": 3}  # no power of two
    found = search("light_conv_fwd", [*right, wrong, failing], {"x": call}, record, timer)
    assert found.winner == right[1] and found.tried == 4
    assert [candidate for candidate, _ in found.discarded] == [wrong, failing]
    assert found.discarded[0][1] == "wrong result 0 on x"
    assert chosen() == rule
    with tuning.trial("light_conv_fwd", right[0]):
        assert chosen() == {**rule, **right[0]}
