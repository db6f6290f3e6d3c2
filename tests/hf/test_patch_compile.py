"""Patched models under torch.compile: one graph, the same results, no recompilation for other sizes."""

import importlib

import pytest
import torch

import bertkernels

linear = importlib.import_module("bertkernels.ops.linear")  # the module: `ops.linear` is the op


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_one_graph_for_every_head(head, make_model, make_batch):
    assert_one_graph(make_model(head, num_groups=2, embedding_size=16, num_hidden_layers=1), make_batch(head))


def test_one_graph_without_a_mask(make_model, make_batch):
    inputs = make_batch()
    del inputs["attention_mask"]
    assert_one_graph(make_model(num_groups=2, embedding_size=16, num_hidden_layers=1), inputs)


def assert_one_graph(model, inputs):
    with torch.no_grad():
        expected = model(**inputs)
    bertkernels.patch(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    got = compiled(**inputs)
    assert list(got) == list(expected)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=2e-5, rtol=0)
    if "loss" in got:
        got.loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.convbert.encoder.parameters())


def test_recorded_outputs(make_model, make_batch):
    model, inputs = make_model(num_hidden_layers=1), make_batch()
    options = {"output_attentions": True, "output_hidden_states": True}
    expected = model(**inputs, **options)
    bertkernels.patch(model)
    got = torch.compile(model, fullgraph=True, backend="aot_eager")(**inputs, **options)
    torch.testing.assert_close(got.attentions, expected.attentions, atol=2e-5, rtol=0)
    torch.testing.assert_close(got.hidden_states, expected.hidden_states, atol=2e-5, rtol=0)


def test_inductor(make_model, make_batch):
    model = make_model("ConvBertForMaskedLM", num_hidden_layers=1)
    inputs = make_batch("ConvBertForMaskedLM")
    expected = model(**inputs)
    expected.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    bertkernels.patch(model)
    got = torch.compile(model, fullgraph=True)(**inputs)
    got.loss.backward()
    torch.testing.assert_close(got.logits, expected.logits, atol=2e-5, rtol=0)
    largest = max(gradient.norm() for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        scale = max(gradients[name].norm(), 1e-3 * largest)
        assert (parameter.grad - gradients[name]).norm() < 1e-4 * scale, name


@pytest.mark.parametrize("gradients", [False, True])
def test_sizes_may_change_without_recompiling(gradients, make_model, make_batch):
    model = make_model(num_hidden_layers=1)
    reference = make_model(num_hidden_layers=1)
    bertkernels.patch(model)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.set_grad_enabled(gradients):
        compiled(**make_batch())
        with torch.compiler.set_stance("fail_on_recompile"):
            for lengths in ((3, 5), (20, 4, 2, 7, 9), (17, 17, 17)):
                inputs = make_batch(lengths=lengths)
                got = compiled(**inputs).last_hidden_state
                expected = reference(**inputs).last_hidden_state
                torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("mkl", [False, True])
def test_one_graph_whichever_library_multiplies(mkl, make_model, make_batch, monkeypatch):
    monkeypatch.setattr(linear, "_MKL_IS_FASTER", mkl)
    model, inputs = make_model(num_hidden_layers=1), make_batch()
    bertkernels.patch(model)
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
        got = torch.compile(model, fullgraph=True, backend="aot_eager")(**inputs).last_hidden_state
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


def test_unpad_compiles_with_a_graph_break(make_model, make_batch):
    model, inputs = make_model(num_hidden_layers=1), make_batch()
    bertkernels.patch(model, unpad=True)
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
        got = torch.compile(model, backend="aot_eager")(**inputs).last_hidden_state
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)
