"""A patched model in bf16 and fp16: no further from fp64 than twice the unpatched one in the same precision.

With unpad=True the unpatched model gets the same sequences without padding.
"""

import copy

import pytest
import torch

import bertkernels
from bertkernels import ops
from bertkernels.ops.dispatch import can_run
from tests.models.half import (
    HALVES,
    MODES,
    assert_within_twice,
    autocast,
    padded_here_and_there,
    right_padded,
    run,
    without_padding,
)

SHAPES = {
    "narrow embeddings": {"embedding_size": 32},
    "narrow embeddings and groups": {"embedding_size": 32, "num_groups": 2},
    "wide embeddings": {"embedding_size": 64},
    "groups": {"embedding_size": 64, "num_groups": 2},
}


@pytest.fixture
def model(make_model):
    def make(**changes):
        sizes = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 64}
        no_dropout = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
        made = make_model("ConvBertModel", **sizes, **no_dropout, **changes)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in made.parameters():  # LayerNorms start at 1, which half precision has exactly
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        return made

    return make


@pytest.mark.parametrize("impl", ["cpu", "reference"])
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unpad", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_error_is_within_twice_the_unpatched_models(shape, unpad, mode, half, impl, model):
    possible, reason = can_run("light_conv", impl, "cpu")
    if not possible:
        pytest.skip(reason)
    stock = model(**SHAPES[shape])
    if mode == "dtype":
        stock = stock.to(half)
    half = half if mode == "autocast" else None
    exact, patched = copy.deepcopy(stock).double(), copy.deepcopy(stock)
    bertkernels.patch(patched, unpad=unpad)
    given = padded_here_and_there() if unpad else right_padded()
    plain = without_padding(*given) if unpad else given
    with ops.use(impl):
        got = run(patched, *given, half)
    eager = run(stock, *plain, half)
    assert got.states.dtype == eager.states.dtype
    assert_within_twice(got, eager, run(exact, *plain), f"{shape} on {impl}")


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("mask_form", ["padded", "all ones", "none"])
@pytest.mark.parametrize("unpad", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_under_autocast_have_the_unpatched_models_dtypes(shape, unpad, mask_form, half, model):
    stock = model(**SHAPES[shape])
    patched = copy.deepcopy(stock)
    bertkernels.patch(patched, unpad=unpad)
    ids, mask = right_padded()
    mask = {"padded": mask, "all ones": torch.ones_like(mask), "none": None}[mask_form]
    with torch.no_grad(), autocast(half):
        expected, got = (
            each(ids, mask, output_attentions=True, output_hidden_states=True) for each in (stock, patched)
        )
        plain = patched(ids, mask)
    dtypes = [
        [tensor.dtype for tensor in (*out.hidden_states, out.last_hidden_state, *out.attentions)]
        for out in (expected, got)
    ]
    assert dtypes[0] == dtypes[1]
    assert plain.last_hidden_state.dtype == expected.last_hidden_state.dtype
