"""The encoder's peers compute the same, and its matrix products are all of them."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bertkernels.bench import encoder
from bertkernels.bench.case import BOTH, FORWARD, Case, dimensions
from bertkernels.bench.measure import ready_peers
from bertkernels.bench.op_bench import HUGGING_FACE, HUGGING_FACE_COMPILED


@pytest.mark.parametrize("size", ["small", "medium-small"])
@pytest.mark.parametrize("mode", [FORWARD, BOTH])
def test_peers_agree_and_are_the_named_ones(size, mode):
    case = Case("encoder", size, 2, 16, mode)
    with ready_peers(case) as (peers, left_out):
        assert not left_out
        assert list(peers) == encoder.BENCH.names(case)
        assert [name for name, peer in peers.items() if peer.floor] == [encoder.PRODUCTS]
        results = peers[encoder.PATCHED].call()
    parameters = sum(x.numel() for x in results[1:])
    published = {"small": 13_143_768, "medium-small": 17_475_888}[size]
    assert parameters == (0 if mode == FORWARD else published)


@pytest.mark.parametrize("size", ["small", "medium-small", "base"])
def test_own_products_are_hugging_faces_without_the_convolutions(size):
    case, sizes = Case("encoder", size, 2, 16), dimensions(size)
    peers = encoder.BENCH.peers(case, only=[HUGGING_FACE, encoder.PRODUCTS])
    theirs, products = (_operations(peers[name].call) for name in (HUGGING_FACE, encoder.PRODUCTS))
    per_token = 2 * sizes.taps * (sizes.channels + sizes.heads * sizes.head_width)  # depthwise and light convolution
    assert products == theirs - 12 * 2 * 16 * per_token


def test_backward_products_are_twice_the_forward_ones():
    forward, both = (
        _operations(encoder.BENCH.peers(Case("encoder", "medium-small", 2, 16, mode))[encoder.PRODUCTS].call)
        for mode in (FORWARD, BOTH)
    )
    assert both == 3 * forward


@pytest.mark.parametrize("size", ["small", "medium-small"])
@pytest.mark.parametrize("mode", [FORWARD, BOTH])
def test_operations_are_those_that_the_products_take(size, mode):
    case = Case("encoder", size, 2, 16, mode)
    products = encoder.BENCH.peers(case, only=[encoder.PRODUCTS])[encoder.PRODUCTS]
    assert encoder.BENCH.operations(case) == _operations(products.call)


def _operations(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_models_share_their_weights():
    ours, theirs = encoder.models("small", "cpu", "float32")
    ours_at = {parameter.data_ptr() for parameter in ours.parameters()}
    assert {parameter.data_ptr() for parameter in theirs.parameters()} == ours_at


@pytest.mark.slow
def test_compiled_peers_agree():
    with ready_peers(Case("encoder", "small", 1, 16, compiled=True)) as (peers, left_out):
        assert {HUGGING_FACE_COMPILED, encoder.PATCHED_COMPILED} <= set(peers), left_out
        compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        peers[encoder.PATCHED_COMPILED].call()
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
