"""On batches of real lengths the peers agree where there is no padding, and ours takes real tokens only."""

import pytest
from torch.utils.flop_counter import FlopCounterMode

from bertkernels.bench import padded_batch
from bertkernels.bench.case import BOTH, FORWARD, dimensions
from bertkernels.bench.measure import ready_peers
from bertkernels.bench.op_bench import HUGGING_FACE
from bertkernels.bench.padded_batch import LENGTHS, OURS, PRODUCTS, UNPADDED, padded_case


@pytest.mark.parametrize("mode", [FORWARD, BOTH])
def test_peers_agree_and_are_the_named_ones(mode):
    case = padded_case("SST-2", "small", mode)
    with ready_peers(case) as (peers, left_out):
        assert not left_out
        assert list(peers) == padded_batch.BENCH.names(case) == [HUGGING_FACE, UNPADDED, OURS, PRODUCTS]


def test_the_padded_peer_multiplies_as_many_rows_more_as_there_is_padding():
    case = padded_case("SST-2", "small", FORWARD)
    peers = padded_batch.BENCH.peers(case, only=[HUGGING_FACE, UNPADDED])
    padded, unpadded = (_linear_operations(peers[name].call) for name in (HUGGING_FACE, UNPADDED))
    assert padded > unpadded > 0
    assert sum(LENGTHS["SST-2"]) / (32 * 44) == pytest.approx(unpadded / padded, rel=0.2)


def test_the_floor_are_the_products_of_real_tokens():
    case = padded_case("SST-2", "small", FORWARD)
    peers = padded_batch.BENCH.peers(case, only=[UNPADDED, PRODUCTS])
    floor, unpadded = (_linear_operations(peers[name].call) for name in (PRODUCTS, UNPADDED))
    assert floor == padded_batch.BENCH.operations(case)
    size, lengths = dimensions("small"), LENGTHS["SST-2"]
    tokens, width = sum(lengths), size.heads * size.head_width
    convolutions = 2 * tokens * size.taps * (size.channels + width)
    # the counter cannot see where packed sequences end: it takes all tokens for one
    attention_between_sequences = 2 * 2 * width * (tokens**2 - sum(length**2 for length in lengths))
    embeddings_of_padding = 2 * (case.batch * case.tokens - tokens) * 128 * size.channels
    assert unpadded == floor + 12 * (convolutions + attention_between_sequences) + embeddings_of_padding


def _linear_operations(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
