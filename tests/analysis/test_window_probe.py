"""Windows end where their sequence does, and a map of them is linear to the window probe alone."""

import pytest
import torch

from bertkernels.analysis.linear_probe import fit_linear, moments_of
from bertkernels.analysis.window_probe import windows


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_neighbours_and_mean(reach):
    lengths = [3, 0, 1, 5]
    x = torch.randn(9, 2)
    found = windows(x, torch.tensor(lengths), reach)
    expected = []
    for sequence in x.split(lengths):
        for token in range(len(sequence)):
            near = range(token - reach, token + reach + 1)
            row = [sequence[i] if 0 <= i < len(sequence) else torch.zeros(2) for i in near]
            expected.append(torch.cat([*row, sequence.mean(0)]))
    torch.testing.assert_close(found, torch.stack(expected))


def test_mixing_is_not_called_non_linearity():
    generator = torch.Generator().manual_seed(0)

    def pairs(rows):
        lengths = torch.randint(3, 9, (rows,), generator=generator)
        x = torch.randn(int(lengths.sum()), 4, generator=generator, dtype=torch.float64)
        around = windows(x, lengths, 1)
        left, _, right, mean = around.split(4, 1)
        return x, around, left + 2 * right.flip(1) - 3 * mean + 1

    x, around, y = pairs(60)
    test_x, test_around, test_y = pairs(20)
    assert fit_linear(moments_of([(around, y)])).score([(test_around, test_y)]).r2 > 0.999999
    assert fit_linear(moments_of([(x, y)])).score([(test_x, test_y)]).r2 < 0.5


def test_no_tokens_and_bad_input():
    assert windows(torch.zeros(0, 3), torch.tensor([0, 0]), 1).shape == (0, 12)
    with pytest.raises(ValueError, match="reach"):
        windows(torch.zeros(2, 3), torch.tensor([2]), -1)
    with pytest.raises(ValueError, match="add up to 3"):
        windows(torch.zeros(2, 3), torch.tensor([2, 1]), 1)
