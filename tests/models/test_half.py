"""Our encoder in bf16 and fp16: no further from fp64 than twice Hugging Face's eager code in the same precision.

Its layers computed op by op are Hugging Face's ConvBERT and ELECTRA with `attn_implementation="eager"`: code that
shares nothing with ours. Where padding is exact, that code gets the same sequences without padding.
"""

import copy

import pytest
import torch

from bertkernels import ops
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert.huggingface_names import model_names
from bertkernels.models.convert.to_huggingface import their_model
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.ops.dispatch import can_run
from tests.models.half import (
    HALVES,
    MODES,
    Run,
    assert_within_twice,
    autocast,
    padded_here_and_there,
    right_padded,
    run,
    without_padding,
)

PLANS = {
    "convbert": {"plan": "2*(mixed ffn)", "embedding_size": 32},
    "grouped": {"plan": "2*(mixed ffn[groups=2])", "embedding_size": 32},
    "wide embeddings": {"plan": "2*(mixed ffn[groups=2])", "embedding_size": 64},
    "bert": {"plan": "2*(attention ffn)"},
}
IMPLS = [
    pytest.param(
        impl,
        marks=pytest.mark.skipif(
            not can_run("light_conv", impl, "cpu")[0], reason=can_run("light_conv", impl, "cpu")[1]
        ),
    )
    for impl in ("cpu", "reference")
]


def configuration(**fields) -> EncoderConfig:
    sizes = {"vocab_size": 60, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    rest = {"max_position_embeddings": 64, "initializer_range": 0.15, "hidden_dropout_prob": 0.0}
    return EncoderConfig(**sizes | rest | {"attention_probs_dropout_prob": 0.0} | fields)


def shaken(model):
    """Biases and LayerNorms start at 0 and 1, which half precision has exactly."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def encoder(**fields) -> EncoderModel:
    torch.manual_seed(0)
    return shaken(EncoderModel(configuration(**fields)))


def theirs_of(model: EncoderModel):
    """Hugging Face's model with the same weights, and how its results are called here."""
    built = their_model(model)
    theirs = type(built)._from_config(built.config, attn_implementation="eager")
    theirs.load_state_dict(built.state_dict(), strict=False)
    names = model_names(built.config.model_type, "encoder", model.config)

    def renamed(run: Run) -> Run:
        return Run(
            run.states,
            {
                ours: weight.to_ours(run.gradients[weight.name])
                for ours, weight in names.items()
                if weight.name in run.gradients
            },
        )

    return theirs, renamed


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", ["reference", "exact"])
@pytest.mark.parametrize("plan", PLANS)
def test_error_is_within_twice_eagers(plan, padding, mode, half, impl):
    model = encoder(**PLANS[plan], padding=padding)
    if mode == "dtype":
        model = model.to(half)
    eager, renamed = theirs_of(copy.deepcopy(model).float())
    exact = copy.deepcopy(eager).double()
    if mode == "dtype":
        eager = eager.to(half)
    half = half if mode == "autocast" else None
    given = right_padded() if padding == "reference" else padded_here_and_there()
    plain = given if padding == "reference" else without_padding(*given)
    with ops.use(impl):
        got = run(model, *given, half)
    assert got.states.dtype == (torch.float32 if mode == "autocast" else model.dtype)
    assert_within_twice(got, renamed(run(eager, *plain, half)), renamed(run(exact, *plain)), f"{plan} on {impl}")


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("plan", PLANS)
def test_autocast_keeps_what_layers_add_to_in_full_precision(plan, half):
    """As on a GPU, whose autocast norms in fp32; on the CPU narrow embeddings would begin in half."""
    model = encoder(**PLANS[plan])
    with autocast(half):
        out = model(*right_padded(), output_sublayer_states=True)
    assert {states.dtype for states in (*out.sublayer_states, out.last_hidden_state)} == {torch.float32}
    out.last_hidden_state.square().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", ["reference", "exact"])
def test_a_row_without_a_token_and_large_scores_stay_finite(padding, mode, half):
    model = encoder(**PLANS["convbert"], padding=padding)
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.sublayers[0].function.query.weight.mul_(30)  # scores in the thousands
    if mode == "dtype":
        model = model.to(half)
    ids, mask = right_padded()
    mask[1] = 0
    with autocast(half if mode == "autocast" else None):
        out = model(ids, mask, output_attentions=True)
    out.last_hidden_state.float().square().mean().backward()
    results = (out.last_hidden_state, *out.attentions, *(parameter.grad for parameter in model.parameters()))
    assert all(tensor.isfinite().all() for tensor in results)


def test_losses_are_in_full_precision():
    """Cross entropies of logits in half precision are summed in fp32, in models of either dtype."""
    ids, mask = right_padded()
    draws = torch.zeros(len(ids), 4, dtype=torch.long)
    torch.manual_seed(0)
    pair = shaken(ElectraForPreTraining(ElectraConfig(discriminator=configuration(**PLANS["convbert"]))))
    inputs = {"masked_lm_positions": draws, "masked_lm_ids": draws + 5, "masked_lm_weights": draws + 1.0}
    sampled = {"attention_mask": mask, "original_input_ids": ids, "sampled_ids": draws + 7}
    exact = copy.deepcopy(pair).double()(ids, **inputs, **sampled)
    with autocast(torch.bfloat16):
        under_autocast = pair(ids, **inputs, **sampled)
    in_half = pair.bfloat16()(ids, **inputs, **sampled)
    for found in (under_autocast, in_half):
        for name in ("loss", "masked_lm_loss", "discriminator_loss"):
            assert found[name].dtype == torch.float32
            assert found[name].item() == pytest.approx(exact[name].item(), rel=0.02), name


@pytest.mark.parametrize("overflow", [False, True])
def test_gradient_scaler_steps_in_fp16_and_skips_what_overflows(overflow):
    torch.manual_seed(0)
    model = EncoderForSequenceClassification(configuration(**PLANS["grouped"], num_labels=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40 if overflow else 2.0**12, growth_interval=100)
    ids, mask = right_padded()
    labels = torch.arange(len(ids)) % 2
    losses = []
    for _ in range(5):
        before = [parameter.clone() for parameter in model.parameters()]
        optimizer.zero_grad()
        with autocast(torch.float16):
            loss = model(ids, mask, labels=labels).loss
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
        changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
        assert not any(changed) if overflow else all(changed)
    assert scaler.get_scale() == (2.0**35 if overflow else 2.0**12)
    assert overflow or losses[-1] < losses[0] - 0.05
