"""Pictures that are quick to learn."""

import pytest
import torch

from bertkernels.analysis.comparison.images import Images


@pytest.fixture(scope="session")
def stripes() -> Images:
    """8 by 8 pictures of four classes: which column pair is bright, with noise."""
    generator = torch.Generator().manual_seed(0)

    def part(rows):
        y = torch.randint(0, 4, (rows,), generator=generator)
        x = 0.3 * torch.rand(rows, 1, 8, 8, generator=generator)
        for row, column in enumerate(y.tolist()):
            x[row, :, :, 2 * column : 2 * column + 2] += 0.5
        return x, y

    return Images(*part(400), *part(100))
