"""The profile of an encoder's call, and what a training step keeps."""

import pytest
import torch

from bertkernels.bench import encoder
from bertkernels.bench.case import BOTH, FORWARD, Case
from bertkernels.bench.kept_tensors import kept_bytes
from bertkernels.bench.matrix_products import encoder_operands
from bertkernels.bench.peak_memory import peak_memory
from bertkernels.bench.profile import FEED_FORWARD_BLOCK, KINDS, MIXED_BLOCK, OUTSIDE, PRODUCTS, profile_call


@pytest.mark.parametrize("mode", [FORWARD, BOTH])
def test_kinds_add_up_to_the_call_and_blocks_have_their_products(mode):
    case = Case("encoder", "small", 2, 64, mode)
    call = encoder.BENCH.peers(case, only=["patched"])["patched"].call
    call()
    profile = profile_call("patched", call, encoder.BENCH.operands_by_part(case), "cpu")
    assert sum(profile.kinds.values()) == pytest.approx(profile.call)
    assert list(profile.kinds) == [kind for kind in KINDS if kind in profile.kinds]
    assert 0 < profile.kinds[OUTSIDE] < profile.call
    blocks = {MIXED_BLOCK, FEED_FORWARD_BLOCK} & profile.kinds.keys()
    assert {f"{part} in one op" for part in profile.products} == blocks
    assert all(time > 0 for time in profile.products.values())
    if mode == BOTH:
        assert not blocks and profile.kinds[PRODUCTS] > 0


def test_operators_within_others_are_counted_once():
    a = torch.randn(512, 512)
    profile = profile_call("x", lambda: torch.nn.functional.linear(a, a, a[0]), [], "cpu")
    assert profile.kinds[PRODUCTS] > 0 and sum(profile.kinds.values()) == pytest.approx(profile.call)


def test_parts_have_all_products():
    case = Case("encoder", "small", 1, 16)
    model = encoder.models("small", "cpu", "float32")[0]
    parts = list(encoder.BENCH.operands_by_part(case))
    assert {part for part, _ in parts} == {"embeddings", "mixed sub-layers", "feed-forward sub-layers"}
    assert len(parts) == len(list(encoder_operands(model, case)))


def test_what_is_kept_is_most_of_the_peak():
    case = Case("encoder", "small", 4, 64, BOTH)
    kept = kept_bytes(case, "patched")
    assert list(kept.values()) == sorted(kept.values(), reverse=True)
    gradients = sum(4 * x.numel() for x in encoder.models("small", "cpu", "float32")[0].parameters())
    assert sum(kept.values()) > 12 * 4 * 64 * 1024 * 4  # at least the activations of feed-forward layers
    assert sum(kept.values()) < peak_memory(case, "patched") + 2**20 < 2 * sum(kept.values()) + 2 * gradients
