"""How depthwise_conv's tokens are cut into chunks: by sizes alone, evenly, and so that padding is spread."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.parametrize("wanted", [0, 1, 44, 87, 88])
@pytest.mark.parametrize("tiles", [1, 2, 43, 44, 87, 88, 89, 256, 4096, 10**6])
def test_chunks_share_the_tiles_evenly(tiles, wanted):
    from bertkernels.kernels.depthwise_conv import chunk_count

    chunks = chunk_count(tiles, wanted)
    longest = -(-tiles // chunks)
    assert 1 <= chunks <= tiles
    assert longest <= max(32, -(-tiles // 255))
    if chunks < tiles:
        assert chunks % 2 == 1
    if chunks > 2:
        longer = -(-tiles // (chunks - 2))
        assert longer > longest, "two fewer would do"
        assert chunks <= wanted or longer > 32, "more than wanted, though none was too long"


def plan(x, weight, kernel="depthwise_conv_bwd", cu_seqlens=None):
    from bertkernels.kernels import depthwise_conv

    shape = depthwise_conv._shape(x, weight, cu_seqlens)
    return depthwise_conv._plan(kernel, *shape, 4, (x.stride(), x.stride()))


def test_launching_from_a_shape_seen_before_is_looked_up():
    x, weight = torch.empty(2, 100, 48), torch.empty(48, 9)
    assert plan(x, weight) is plan(x, weight)
    assert plan(x, weight).numbers == (2, 100, 4, 4, 9, *(300, 3), *(300, 3))  # 14 groups, 4 tiles; strides in 16s
    assert plan(x, weight).constants["UNIT"] == 16


def test_rows_side_by_side_are_a_constant_apart():
    x, weight = torch.empty(2, 100, 48), torch.empty(48, 9)
    assert plan(x, weight).constants["STEP"] == 48
    assert plan(x[0], weight, cu_seqlens=torch.empty(3)).constants["STEP"] == 48
    assert plan(torch.empty(2, 100, 50)[..., :48], weight).constants["STEP"] == 0
    assert plan(x[:1].transpose(0, 1), weight).constants["STEP"] == 48  # one token a row: no stride to speak of


@pytest.mark.parametrize("channels, programs", [(768, 3), (384, 3), (256, 1), (100, 1), (5, 1)])
def test_a_warp_has_a_line_of_channels(channels, programs):
    from bertkernels.kernels.depthwise_conv import configuration

    chosen = configuration("depthwise_conv_fwd", torch.device("cpu"), torch.bfloat16, channels, 9)
    assert -(-channels // chosen["CHUNK"]) == programs
    assert chosen["CHUNK"] <= 64 * chosen["num_warps"]
