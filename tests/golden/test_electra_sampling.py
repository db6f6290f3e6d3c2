"""Sampling and scattering of ELECTRA's tokens against recordings of the released code, with the noise given."""

import numpy as np
import pytest
import torch

from bertkernels.models.electra import gumbel_noise, sample_tokens, scatter_draws
from bertkernels.models.heads import gather_positions


@pytest.fixture(scope="module")
def recorded(golden_dir):
    file = golden_dir / "electra" / "pretrain_helpers.npz"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    with np.load(file) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_samples_are_those_of_the_released_code(recorded):
    logits, noise = recorded["gumbel/in_logits"], gumbel_noise(recorded["gumbel/in_uniform"])
    assert torch.equal(sample_tokens(logits, noise=noise), recorded["gumbel/out_ids"])
    disallowed = recorded["gumbel/in_disallow_onehot"].argmax(-1)
    found = sample_tokens(logits, noise=noise, disallowed=disallowed)
    assert torch.equal(found, recorded["gumbel/out_ids_disallow"])


def test_gathering_is_that_of_the_released_code(recorded):
    positions = recorded["gs/pos"].long()
    for rank in (2, 3):
        found = gather_positions(recorded[f"gs/seq{rank}"], positions)
        assert torch.equal(found, recorded[f"gs/out_gather{rank}"])


def test_averaging_scatter_is_that_of_the_released_code(recorded):
    ids, positions, updates = (recorded[f"gs/{name}"].long() for name in ("seq2", "pos", "upd2"))
    drawn = positions > 0  # there an unused slot is one at position 0
    found = scatter_draws(ids, positions, updates, drawn, duplicates="average")
    assert torch.equal(found, recorded["gs/out_scatter2"].long())
    written = torch.zeros_like(ids).scatter_add(1, positions, drawn.long()) > 0
    assert torch.equal(written.int(), recorded["gs/out_scatter2_mask"])


def test_first_draw_agrees_wherever_a_position_is_drawn_once(recorded):
    ids, positions, updates = (recorded[f"gs/{name}"].long() for name in ("seq2", "pos", "upd2"))
    drawn = positions > 0
    count = torch.zeros_like(ids).scatter_add(1, positions, drawn.long())
    assert (count > 1).any() and (count == 1).any()
    found = scatter_draws(ids, positions, updates, drawn)
    assert torch.equal(found[count < 2], recorded["gs/out_scatter2"].long()[count < 2])
    for row, column in (count > 1).nonzero().tolist():
        first = updates[row, (positions[row] == column).nonzero()[0, 0]]
        assert found[row, column] == first
