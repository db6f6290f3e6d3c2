"""Masking equals the recordings of the original program, given the same draws."""

import numpy as np
import pytest

from bertkernels.training.masking import apply_mask, candidate_positions, max_predictions, prediction_counts

CLS, SEP, MASK = 1, 2, 3  # the recording's small vocabulary


@pytest.fixture(scope="module")
def recordings(golden_dir):
    paths = sorted(golden_dir.rglob("pretrain_helpers*.npz"))
    if not paths:
        pytest.skip(f"no pretrain_helpers recording under {golden_dir}")
    return [np.load(path) for path in paths]


def test_number_of_predictions(recordings):
    for recorded in recordings:
        names = [name for name in recorded if name.startswith("nmask/") and name.endswith("_lengths")]
        assert names
        for name in names:
            stem = name.removesuffix("_lengths")
            limit = max_predictions(int(stem.rsplit("_", 1)[1]))
            assert limit == recorded[f"{stem}_max_predictions"]
            np.testing.assert_array_equal(prediction_counts(recorded[name], limit), recorded[f"{stem}_num_to_predict"])


def test_candidates_and_masks(recordings):
    for recorded in recordings:
        input_ids, real = recorded["mask/in_input_ids"], recorded["mask/in_input_mask"].astype(bool)
        candidates = candidate_positions(input_ids, real, (CLS, SEP, MASK))
        np.testing.assert_array_equal(candidates, recorded["mask/out_candidates_mask"])

        positions = recorded["mask/in_categorical_positions"]
        draws = positions.shape[1]
        weights = np.arange(draws) < prediction_counts(real.sum(axis=1), draws)[:, None]
        masked = apply_mask(input_ids, positions, weights, recorded["mask/in_uniform"], MASK)
        np.testing.assert_array_equal(masked.input_ids, recorded["mask/out_input_ids"])
        np.testing.assert_array_equal(masked.positions, recorded["mask/out_masked_lm_positions"])
        np.testing.assert_array_equal(masked.ids, recorded["mask/out_masked_lm_ids"])
        np.testing.assert_array_equal(masked.weights, recorded["mask/out_masked_lm_weights"])
        np.testing.assert_array_equal(input_ids, recorded["mask/out_unmasked_input_ids"])
