"""Parts of a row: powers of two from 16 on that cover it with less than 16 channels too many."""

import pytest

pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.parametrize("width", [1, 8, 16, 17, 32, 37, 48, 64, 80, 96, 100, 112, 128, 200, 512])
def test_parts_cover_a_row_with_little_waste(width):
    from bertkernels.kernels.parts import parts

    end = 0
    for first, size in parts(width):
        assert first == end and first % size == 0 and size & (size - 1) == 0 and 16 <= size <= 128
        end = first + size
    assert width <= end < width + 16


def test_published_head_widths():
    from bertkernels.kernels.parts import parts

    assert parts(64) == ((0, 64),) and parts(48) == ((0, 32), (32, 16)) and parts(32) == ((0, 32),)
