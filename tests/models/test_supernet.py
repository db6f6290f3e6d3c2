"""Supernets: what a plan inherits gives the supernet's own outputs along that path."""

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert.to_huggingface import to_huggingface
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining, generator_config
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.next_sentence import EncoderForMaskedLMAndNextSentence
from bertkernels.models.supernet import (
    inherited_model,
    is_supernet,
    path_of,
    plain_config,
    plan_of,
    set_path,
)

KINDS = ["attention", "ffn", "mixed[head_ratio=1.5]", "dynamic_conv"]
PLAN = "(ffn dynamic_conv) (mixed[head_ratio=1.5] attention) ffn"


def config(**changes):
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    plan = {"plan": "2*(attention ffn) dynamic_conv", "supernet_kinds": KINDS, "initializer_range": 0.2}
    return EncoderConfig(**{**sizes, **plan, **changes})


def pair(generator_too: bool, **fields):
    discriminator = config()
    changes = {} if generator_too else {"supernet_kinds": None}
    generator = EncoderConfig(**generator_config(discriminator, 0.5).to_dict() | changes)
    return ElectraForPreTraining(ElectraConfig(generator=generator, discriminator=discriminator, **fields))


MODELS = {
    "masked_lm": lambda: EncoderForMaskedLM(config()),
    "narrow": lambda: EncoderForMaskedLM(config(embedding_size=16)),
    "next_sentence": lambda: EncoderForMaskedLMAndNextSentence(config(pooler=True)),
    "electra": lambda: pair(False),
    "electra_both": lambda: pair(True),
    "electra_one_network": lambda: ElectraForPreTraining(ElectraConfig(discriminator=config(), untied_generator=False)),
}


def batch():
    original = torch.randint(4, 60, (3, 10), generator=torch.Generator().manual_seed(0))
    return {
        "input_ids": original,
        "attention_mask": torch.tensor([[1] * 10, [1] * 7 + [0] * 3, [1] * 3 + [0] * 7]),
        "masked_lm_positions": torch.tensor([[1, 5], [2, 4], [1, 0]]),
        "masked_lm_ids": torch.tensor([[9, 8], [7, 6], [5, 0]]),
        "masked_lm_weights": torch.tensor([[1.0, 1], [1, 1], [1, 0]]),
    }


def outputs(model) -> list[torch.Tensor]:
    given = batch()
    torch.manual_seed(0)  # the generator's samples
    if isinstance(model, ElectraForPreTraining):
        out = model(**given)
        return [out.loss, out.masked_lm_logits, out.discriminator_logits]
    out = model(given["input_ids"], given["attention_mask"])
    return [value for value in out.to_tuple() if torch.is_tensor(value)]


@pytest.mark.parametrize("name", MODELS)
def test_a_plan_inherits_the_path_to_the_bit(name):
    torch.manual_seed(1)
    supernet = MODELS[name]().eval()
    before = outputs(supernet)
    plain = inherited_model(supernet, PLAN)
    assert not is_supernet(plain) and not plain.training
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(supernet), strict=True)), "extracting sets no path"
    set_path(supernet, PLAN)
    along, alone = outputs(supernet), outputs(plain)
    assert all(torch.equal(a, b) for a, b in zip(along, alone, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, along, strict=True)), "another path, another output"

    network = plain.config.discriminator if name.startswith("electra") else plain.config
    assert network.plan == PLAN and network.supernet_kinds is None
    with torch.no_grad():
        for weight in plain.parameters():
            weight.zero_()
    assert all(torch.equal(a, b) for a, b in zip(along, outputs(supernet), strict=True)), "weights are copies"


@pytest.mark.parametrize("name", MODELS)
def test_gradients_along_a_path_are_the_plain_models_and_others_none(name):
    torch.manual_seed(1)
    supernet = MODELS[name]().eval()
    plain = inherited_model(supernet, PLAN)
    set_path(supernet, PLAN)
    for model in (supernet, plain):
        sum(value.square().mean() for value in outputs(model)).backward()
    # a plain model's weights are laid out as the supernet's that ran, in the same order
    ran = [weight for weight in supernet.parameters() if weight.grad is not None]
    own = [weight for weight in plain.parameters() if weight.grad is not None]
    assert len(ran) == len(own) < len(list(supernet.parameters()))
    shapes = sorted((tuple(weight.shape), weight.grad.double().norm().item()) for weight in ran)
    assert shapes == sorted((tuple(weight.shape), weight.grad.double().norm().item()) for weight in own)


@pytest.mark.parametrize("name", MODELS)
def test_checkpoints(name, tmp_path):
    torch.manual_seed(1)
    supernet = MODELS[name]().eval()
    set_path(supernet, PLAN)
    expected = outputs(supernet)
    supernet.save_pretrained(tmp_path)
    assert "supernet_kinds" in (tmp_path / "config.json").read_text()
    again, report = type(supernet).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    again.eval()
    set_path(again, PLAN)
    assert all(torch.equal(a, b) for a, b in zip(expected, outputs(again), strict=True))
    held = load_file(tmp_path / "model.safetensors")
    assert any(name.endswith("blocks.2.sublayers.0.mixed_head_ratio_1_5.norm.weight") for name in held)


def test_states_and_attention_maps_are_the_paths():
    supernet = MODELS["masked_lm"]().eval()
    set_path(supernet, PLAN)
    plain = inherited_model(supernet, PLAN)
    ids = batch()["input_ids"]
    asked = {"output_hidden_states": True, "output_attentions": True}
    along, alone = supernet(ids, **asked), plain(ids, **asked)
    assert len(along.hidden_states) == 4 and len(along.attentions) == len(alone.attentions) == 2
    for name in ("hidden_states", "attentions"):
        assert all(torch.equal(a, b) for a, b in zip(along[name], alone[name], strict=True))


def test_gradient_checkpointing_recomputes_the_same_path():
    torch.manual_seed(1)
    supernet = EncoderForMaskedLM(config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)).train()
    set_path(supernet, PLAN)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            supernet.gradient_checkpointing_enable()
        supernet.zero_grad()
        outputs(supernet)[0].square().mean().backward()
        gradients.append([weight.grad for weight in supernet.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.equal(one, other))


def test_paths_and_plans():
    path = path_of(config(), "ffn ffn (attention attention) dynamic_conv")
    assert path == ("ffn", "ffn", "attention", "attention", "dynamic_conv")
    assert str(plan_of(config(), path)) == "(ffn ffn) (attention attention) dynamic_conv"
    assert plain_config(config(), path).plan == "(ffn ffn) (attention attention) dynamic_conv"


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("2*(attention ffn)", 'plan "2*(attention ffn)" has 4 sub-layers, the supernet 5 slots'),
        ("2*(attention ffn) mixed", "sub-layer 5 is mixed, the supernet's slots hold attention, ffn, mixed[head"),
        ("2*(attention ffn[groups=2]) ffn", "sub-layer 2 is ffn[groups=2]"),
    ],
)
def test_plans_that_do_not_fit(plan, message):
    model = MODELS["masked_lm"]()
    for use in (set_path, inherited_model):
        with pytest.raises(InputError) as caught:
            use(model, plan)
        assert message in str(caught.value)


def test_a_plain_model_has_no_paths():
    with pytest.raises(InputError, match="is no supernet"):
        set_path(EncoderForMaskedLM(config(supernet_kinds=None)), PLAN)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["attention"], "at least two different"),
        (["attention", "attention", "ffn", "dynamic_conv"], "at least two different"),
        (["attention", "attention ffn"], "must be single sub-layers, got 'attention ffn'"),
        (["attention", "fnn"], "unknown sub-layer 'fnn', did you mean 'ffn'?"),
        (["attention", "ffn"], "must have all of the plan's, which has dynamic_conv too"),
        ("attention", "must be a list"),
        (["attention", "ffn[groups=3]", "ffn", "dynamic_conv"], "must divide hidden_size"),
    ],
)
def test_kinds_that_make_no_supernet(kinds, message):
    with pytest.raises(InputError) as caught:
        config(supernet_kinds=kinds)
    assert message in str(caught.value)


def test_a_supernet_is_no_hugging_face_model(tmp_path):
    plain = config(plan="4*(attention ffn)", supernet_kinds=["attention", "ffn"])
    with pytest.raises(InputError, match="this model is a supernet"):
        to_huggingface(EncoderForMaskedLM(plain), tmp_path / "theirs")
