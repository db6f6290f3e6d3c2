"""ONNX files, run by onnxruntime, against the models they were made of."""

import pytest
import torch

import bertkernels
from bertkernels.errors import InputError
from bertkernels.export import largest_differences, to_onnx
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForSequenceClassification
from tests.export.test_program import inputs, ours
from tests.hf.conftest import make_config, make_model  # noqa: F401

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'bertkernels[onnx]'")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'bertkernels[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'bertkernels[onnx]'")


def assert_equal_to_the_model(path, model, tokens, patterns):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for batch, length in ((1, 1), (2, tokens), (5, 9)):
        for pattern in patterns:
            given = inputs(batch, length, pattern=pattern)
            with torch.no_grad():
                expected = model(**given)
            found = session.run(names, {name: x.numpy() for name, x in given.items()})
            for name, array in zip(names, found, strict=True):
                torch.testing.assert_close(torch.from_numpy(array), expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_our_classifier_with_exact_padding(tmp_path):
    model = ours(EncoderForSequenceClassification, num_labels=3)
    path = to_onnx(model, tmp_path / "new" / "model.onnx")
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert_equal_to_the_model(path, model, 24, ("right", "any"))
    assert largest_differences(model, path)["logits"] < 1e-5

    loaded = onnx.load(path)
    onnx.checker.check_model(loaded)
    assert {domain.domain for domain in loaded.opset_import} == {""}  # standard operators alone
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*loaded.graph.input, *loaded.graph.output)
    }
    assert shapes == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
        "token_type_ids": ["batch", "sequence"],
        "logits": ["batch", 3],
    }

    # what the check is there to find
    with torch.no_grad():
        model.classifier.output.bias.add_(0.5)
    assert largest_differences(model, path)["logits"] == pytest.approx(0.5, abs=1e-4)


def test_our_encoder_with_reference_padding(tmp_path):
    model = ours(EncoderModel, padding="reference", plan="mixed[kernel=4] dynamic_conv ffn")
    assert_equal_to_the_model(to_onnx(model, tmp_path / "model.onnx"), model, 24, ("right", "any"))


@pytest.mark.parametrize("unpad", [False, True])
def test_patched_hugging_face_model(unpad, make_model, tmp_path):  # noqa: F811
    model = make_model("ConvBertForTokenClassification", num_groups=2, embedding_size=16, num_hidden_layers=1)
    bertkernels.patch(model, unpad=unpad)
    path = to_onnx(model, tmp_path / "model.onnx")
    assert_equal_to_the_model(path, model, 40, ("right", "any") if unpad else ("right",))


def test_a_file_is_not_overwritten_unasked(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    model = ours(plan="ffn")
    with pytest.raises(InputError, match="model.onnx exists; --overwrite replaces it"):
        to_onnx(model, path)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="is a folder; the ONNX file's name is to be given"):
        to_onnx(model, tmp_path)
    with pytest.raises(InputError, match="opset must be at least 18, got 17"):
        to_onnx(model, tmp_path / "other.onnx", opset=17)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
