import json

import pytest
from transformers import AutoConfig

import bertkernels.models.auto  # noqa: F401  registers the configurations
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig


def test_defaults_are_bert_base():
    config = EncoderConfig()
    assert (config.hidden_size, config.embedding_size, config.head_size, config.num_hidden_layers) == (768, 768, 64, 12)
    assert config.plan == "12*(attention ffn)" and config.padding == "exact"


def test_plan_is_stored_in_normal_form_and_round_trips(tmp_path):
    config = EncoderConfig(
        plan="(mixed ffn) (mixed  ffn) attention", embedding_size=96, padding="reference", pooler=True, num_labels=3
    )
    config.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["plan"] == "2*(mixed ffn) attention" and stored["model_type"] == "bertkernels"
    for loaded in (EncoderConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is EncoderConfig
        assert loaded.to_dict() == {**config.to_dict(), "_name_or_path": loaded.to_dict()["_name_or_path"]}
        assert loaded.num_labels == 3


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "num_attention_heads", "conv_kernel_size"])
@pytest.mark.parametrize("value", [0, -1, 4.0, "4", True, None])
def test_sizes_are_whole_numbers(name, value):
    with pytest.raises(InputError, match=f"{name} must be a whole number from 1"):
        EncoderConfig(**{name: value})


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"hidden_size": 100}, "hidden_size 100 must be divisible by num_attention_heads 12"),
        ({"plan": "2*(mixed ffn[groups=5])"}, r"ffn\[groups=5\] must divide hidden_size, 768"),
        ({"plan": "ffn[groups=3, width=64]"}, r"ffn\[groups=3\] must divide the ffn's width, 64"),
        ({"plan": "mixed[head_ratio=2, heads=3]"}, "head_ratio or heads, not both"),
        ({"plan": "2*(mixd ffn)"}, "did you mean 'mixed'"),
        ({"plan": ""}, "expected a sub-layer"),
        ({"plan": None}, "plan must be text"),
        ({"plan": ["ffn"]}, "plan must be text"),
        ({"padding": "packed"}, "padding must be one of exact, reference, got 'packed'"),
        ({"hidden_act": "mish"}, "hidden_act must be one of elu"),
        ({"classifier_hidden_act": "mish"}, "classifier_hidden_act must be one of"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob must be a number from 0 to 1, got 1.5"),
        ({"attention_probs_dropout_prob": None}, "attention_probs_dropout_prob must be a number"),
        ({"classifier_dropout": -0.1}, "classifier_dropout must be a number from 0 to 1"),
        ({"head_ratio": 0}, "head_ratio must be a number above 0"),
        ({"head_ratio": float("nan")}, "head_ratio must be a number above 0"),
        ({"initializer_range": float("inf")}, "initializer_range must be a number above 0"),
        ({"layer_norm_eps": -1e-12}, "layer_norm_eps must be a number from 0"),
        ({"pad_token_id": 30522}, "pad_token_id must be below vocab_size 30522"),
        ({"num_hidden_layers": 6}, "num_hidden_layers 6 contradicts the plan, which has 12"),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        EncoderConfig(**fields)


@pytest.mark.parametrize("act", ["gelu", "relu", "tanh", "gelu_tanh", "gelu_new", "linear"])
def test_known_activations(act):
    assert EncoderConfig(hidden_act=act).hidden_act == act


def test_equal_configurations_compare_equal():
    assert EncoderConfig().to_dict() == EncoderConfig(plan="12 * (attention ffn)", num_hidden_layers=12).to_dict()
