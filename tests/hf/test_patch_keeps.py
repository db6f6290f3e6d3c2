"""What `patch` must leave as it was, and how it is undone."""

import copy
import io
import json
import pickle

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertModel
from transformers.models.convbert import modeling_convbert

import bertkernels
from bertkernels.hf.patch import _STOCK


def is_patched(model: nn.Module) -> bool:
    return any(type(module) in _STOCK for module in model.modules())


def last(model, inputs):
    with torch.no_grad():
        return model(**inputs)[0]


def state(model):
    """Everything that a module tree consists of, but the tensors' contents."""
    return [
        (name, type(module), sorted(vars(module)), len(module._forward_pre_hooks), len(module._forward_hooks))
        for name, module in model.named_modules()
    ]


def test_parameters_buffers_and_names_are_the_same_objects(make_model):
    model = make_model("ConvBertForMaskedLM", num_groups=2)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    names, keys = [name for name, _ in model.named_modules()], list(model.state_dict())
    bertkernels.patch(model)
    assert [name for name, _ in model.named_modules()] == names and list(model.state_dict()) == keys
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())


@pytest.mark.parametrize("unpad", [False, True])
def test_unpatch_restores_every_module_and_every_bit(unpad, head, make_model, make_batch):
    model = make_model(head, num_groups=2)
    before, expected = state(model), last(model, make_batch(head))
    bertkernels.patch(model, unpad=unpad)
    assert is_patched(model) and state(model) != before
    bertkernels.unpatch(model)
    assert state(model) == before
    torch.testing.assert_close(last(model, make_batch(head)), expected, atol=0, rtol=0)
    bertkernels.unpatch(model)  # nothing left to undo
    assert state(model) == before


@pytest.mark.parametrize("unpad", [False, True])
def test_patching_twice_changes_nothing(unpad, make_model):
    model = make_model("ConvBertForSequenceClassification")
    first = bertkernels.patch(model, unpad=unpad)
    once = state(model)
    assert bertkernels.patch(model, unpad=unpad) == first
    assert state(model) == once


def test_context_manager(make_model, make_batch):
    model = make_model()
    before = state(model)
    with pytest.raises(KeyError):
        with bertkernels.patched(model) as report:
            assert report.swapped["ConvBertSelfAttention"] == 2 and is_patched(model)
            raise KeyError
    assert state(model) == before

    bertkernels.patch(model)
    patched, expected = state(model), last(model, make_batch())
    with bertkernels.patched(model, unpad=True) as report:
        assert report.unpad and state(model) != patched
        assert (last(model, make_batch()) - expected).abs().max() > 1e-2
    assert state(model) == patched
    torch.testing.assert_close(last(model, make_batch()), expected, atol=0, rtol=0)


@pytest.mark.parametrize("unpad", [False, True])
def test_saved_model_is_an_ordinary_one(unpad, make_model, make_batch, tmp_path):
    stock = make_model("ConvBertForMaskedLM", num_groups=2)
    stock.save_pretrained(tmp_path / "stock")
    expected = last(stock, make_batch())
    bertkernels.patch(stock, unpad=unpad)
    stock.save_pretrained(tmp_path / "patched")

    read = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("stock", "patched")]
    assert read[0] == read[1] and read[1]["architectures"] == ["ConvBertForMaskedLM"]
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "patched").eval()
    assert not is_patched(loaded)
    torch.testing.assert_close(last(loaded, make_batch()), expected, atol=0, rtol=0)


def test_state_dicts_go_both_ways(make_model, make_batch):
    patched, other = make_model(num_groups=2), make_model(num_groups=2)
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.1)
    expected = last(other, make_batch())
    bertkernels.patch(patched)
    assert patched.load_state_dict(other.state_dict()) == ([], [])
    torch.testing.assert_close(last(patched, make_batch()), expected, atol=2e-5, rtol=0)
    assert other.load_state_dict(patched.state_dict()) == ([], [])


@pytest.mark.parametrize("unpad", [False, True])
def test_copies_and_pickles_are_patched_models_of_their_own(unpad, make_model, make_batch):
    model = make_model("ConvBertForSequenceClassification", num_groups=2)
    bertkernels.patch(model, unpad=unpad)
    expected = last(model, make_batch())
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    for duplicate in copies:
        assert state(duplicate) == state(model)
        torch.testing.assert_close(last(duplicate, make_batch()), expected, atol=0, rtol=0)
        bertkernels.unpatch(duplicate)
        assert not is_patched(duplicate) and not duplicate.convbert._forward_pre_hooks
    assert is_patched(model) and len(model.convbert._forward_pre_hooks) == 1


def test_hooks_still_fire(make_model, make_batch):
    model = make_model(num_groups=2)
    seen = []
    names = ["query", "key", "value", "conv_kernel_layer", "conv_out_layer", "key_conv_attn_layer"]
    names = [f"attention.self.{name}" for name in names] + ["attention.self", "intermediate.dense", "output.dense"]
    for name in names:
        module = model.encoder.layer[0].get_submodule(name)
        module.register_forward_hook(lambda module, args, output, name=name: seen.append(name))
    model.register_forward_pre_hook(lambda module, args: seen.append("model"))
    bertkernels.patch(model)
    last(model, make_batch())
    assert sorted(seen) == sorted([*names, "model"])
    bertkernels.unpatch(model)
    last(model, make_batch())
    assert sorted(seen) == sorted([*names, "model"] * 2)


def test_linear_layers_may_be_replaced(make_model, make_batch):
    class Doubled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return 2 * self.inner(x)

    model = make_model()
    bertkernels.patch(model)
    for name in ("query", "value", "conv_kernel_layer", "conv_out_layer"):
        attention = model.encoder.layer[1].attention.self
        setattr(attention, name, Doubled(getattr(attention, name)))
    got = last(model, make_batch())
    bertkernels.unpatch(model)
    torch.testing.assert_close(got, last(model, make_batch()), atol=2e-5, rtol=0)


def test_padding_without_a_mask_still_warns(make_model, make_batch, monkeypatch):
    model = make_model()
    bertkernels.patch(model)
    warnings = []
    logger = type(model).warn_if_padding_and_no_attention_mask.__globals__["logger"]
    monkeypatch.setattr(logger, "warning_once", warnings.append)
    last(model, {"input_ids": make_batch()["input_ids"]})
    assert len(warnings) == 1 and "attention_mask" in warnings[0]


def test_report(make_model):
    report = bertkernels.patch(make_model("ConvBertForMaskedLM", num_groups=2))
    assert report.swapped == {
        "ConvBertEncoder": 1,
        "ConvBertLayer": 2,
        "ConvBertAttention": 2,
        "ConvBertSelfAttention": 2,
        "SeparableConv1D": 2,
        "ConvBertSelfOutput": 2,
        "ConvBertIntermediate": 2,
        "ConvBertOutput": 2,
        "GroupedLinearLayer": 4,
    }
    assert report.left_alone == {} and report.device == "cpu" and not report.unpad
    text = str(report)
    assert "\n" not in text and "2 ConvBertSelfAttention" in text
    assert set(report.implementations) == {"light_conv", "depthwise_conv", "grouped_linear"}
    for op, impl in report.implementations.items():
        assert f"{op} on {impl}" in text
    with bertkernels.ops.use("reference"):
        assert set(bertkernels.patch(make_model()).implementations.values()) == {"reference"}


class TestLeftAlone:
    def reasons(self, model) -> dict[str, str]:
        report = bertkernels.patch(model)
        for name, reason in report.left_alone.items():
            assert type(model.get_submodule(name)) not in _STOCK
            assert reason in str(report)
        return report.left_alone

    def test_even_kernels(self, make_model):
        reasons = self.reasons(make_model(conv_kernel_size=4))
        assert len(reasons) == 4 and all("even" in why or "not centred" in why for why in reasons.values())

    def test_decoders_and_cross_attention(self, make_model):
        reasons = self.reasons(make_model(is_decoder=True, add_cross_attention=True))
        assert len(reasons) == 22 and all("cross-attention" in why for why in reasons.values())

    def test_subclasses(self, make_model, make_batch):
        class Custom(modeling_convbert.ConvBertSelfAttention):
            def forward(self, *arguments, **options):
                context, probabilities = super().forward(*arguments, **options)
                return -context, probabilities

        model = make_model()
        model.encoder.layer[1].attention.self.__class__ = Custom
        expected = last(model, make_batch())
        assert "Custom" in self.reasons(model)["encoder.layer.1.attention.self"]
        torch.testing.assert_close(last(model, make_batch()), expected, atol=2e-5, rtol=0)
        assert type(model.encoder.layer[0].attention.self) in _STOCK

    def test_forward_replaced_on_the_instance(self, make_model):
        model = make_model()
        attention = model.encoder.layer[0].attention.self
        attention.forward = attention.forward
        assert "replaced on the instance" in self.reasons(model)["encoder.layer.0.attention.self"]

    @pytest.mark.parametrize(
        "depthwise",
        [
            nn.Conv1d(32, 32, 9, groups=16, padding=4, bias=False),
            nn.Conv1d(32, 32, 9, groups=32, padding=4, bias=True),
            nn.Conv1d(32, 32, 9, groups=32, padding=8, dilation=2, bias=False),
            nn.Conv1d(32, 32, 9, groups=32, padding=4, padding_mode="reflect", bias=False),
            nn.Conv1d(32, 32, 9, groups=32, padding=3, bias=False),
            nn.utils.parametrizations.weight_norm(nn.Conv1d(32, 32, 9, groups=32, padding=4, bias=False)),
        ],
    )
    def test_other_convolutions(self, depthwise, make_model):
        model = make_model()
        model.encoder.layer[0].attention.self.key_conv_attn_layer.depthwise = depthwise
        assert list(self.reasons(model)) == [
            "encoder.layer.0.attention.self",
            "encoder.layer.0.attention.self.key_conv_attn_layer",
        ]

    def test_cross_attention_at_call_time(self, make_model):
        model = make_model()
        attention = model.encoder.layer[0].attention.self
        arguments = {"hidden_states": torch.randn(2, 6, 32), "encoder_hidden_states": torch.randn(2, 6, 32)}
        expected = attention(**arguments)
        bertkernels.patch(model)
        for one, other in zip(expected, attention(**arguments), strict=True):
            torch.testing.assert_close(other, one, atol=2e-5, rtol=0)


class TestErrors:
    def test_no_convbert_layers(self):
        bert = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
        with pytest.raises(ValueError, match="no ConvBERT layers in BertModel; looked for .*ConvBertSelfAttention"):
            bertkernels.patch(bert)

    def test_not_a_module(self):
        with pytest.raises(TypeError, match="model must be a torch.nn.Module, got str"):
            bertkernels.patch("YituTech/conv-bert-base")


class TestRegister:
    @pytest.fixture(autouse=True)
    def registered(self):
        bertkernels.register()
        bertkernels.register()  # twice is once
        yield
        bertkernels.unregister()
        bertkernels.unregister()

    @pytest.mark.parametrize("auto", [AutoModel, AutoModelForMaskedLM])
    def test_from_config_and_from_pretrained(self, auto, make_model, make_batch, tmp_path):
        bertkernels.unregister()
        stock = make_model("ConvBertForMaskedLM", num_groups=2)
        bertkernels.register()
        stock.save_pretrained(tmp_path)
        expected = stock.convbert if auto is AutoModel else stock
        assert not is_patched(expected)
        assert is_patched(auto.from_config(stock.config))
        loaded = auto.from_pretrained(tmp_path).eval()
        complete = state(loaded)
        bertkernels.patch(loaded)
        assert state(loaded) == complete

        options = {"output_attentions": True, "output_hidden_states": True}
        with torch.no_grad():
            got, wanted = loaded(**make_batch(), **options), expected(**make_batch(), **options)
        torch.testing.assert_close(got[0], wanted[0], atol=2e-5, rtol=0)
        assert len(got.attentions) == len(wanted.attentions) == 2
        torch.testing.assert_close(got.attentions, wanted.attentions, atol=2e-5, rtol=0)
        torch.testing.assert_close(got.hidden_states, wanted.hidden_states, atol=2e-5, rtol=0)

    def test_direct_construction(self, head, make_model):
        assert is_patched(make_model(head))

    def test_unregister_ends_it_and_stock_models_still_record(self, make_model, make_batch):
        made = AutoModel.from_config(make_model().config)
        bertkernels.unregister()
        assert is_patched(made) and not is_patched(AutoModel.from_config(made.config))
        bertkernels.unpatch(made)
        assert not is_patched(made)
        assert len(made(**make_batch(), output_attentions=True).attentions) == 2
        assert len(make_model()(**make_batch(), output_attentions=True).attentions) == 2
