"""Grids hold all programs on sides that CUDA takes; strides come in the largest unit that divides them."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.parametrize("programs", [1, 2, 65_534, 65_535, 65_536, 65_537, 131_070, 131_071, 10**6 + 3, 2**31 - 1])
def test_grids_hold_all_programs(programs):
    from bertkernels.kernels.launch import grid

    columns, rows = grid(programs)
    assert max(columns, rows) <= 65_535
    assert programs <= columns * rows < programs + rows
    assert rows == 1 or programs > 65_535


def test_strides():
    from bertkernels.kernels.strides import common_unit, in_units, token_strides

    def strides(x):
        return token_strides(x.shape, x.stride())

    padded, packed, one_head = torch.empty(2, 5, 3, 48), torch.empty(7, 3, 20), torch.empty(1, 5, 1, 24)
    assert strides(padded) == (720, 144, 48)
    assert strides(padded.transpose(1, 2)) == (720, 48, 144)
    assert strides(packed) == (0, 60, 20)
    assert strides(one_head) == (0, 24, 0)
    assert common_unit(strides(padded)) == 16
    assert common_unit(strides(padded), strides(packed)) == 4
    assert common_unit(strides(one_head)) == 8
    assert common_unit((0, 0, 0)) == 16
    assert in_units(4, strides(padded), strides(packed)) == (180, 36, 12, 0, 15, 5)


def test_launching_from_a_shape_seen_before_is_looked_up():
    from bertkernels.kernels import light_conv

    values, logits = torch.empty(2, 9, 3, 48), torch.empty(2, 9, 3, 9)

    def plan():
        shape = light_conv._shape(values, logits, None)
        return light_conv._plan("light_conv_fwd", *shape, False, (values.stride(),) * 2, (logits.stride(),))

    assert plan() is plan()
    assert plan().numbers == (2, 9, 3, *(81, 9, 3), *(81, 9, 3), *(243, 27, 9))
