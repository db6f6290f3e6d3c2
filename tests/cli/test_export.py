"""`bertkernels export` from the command line."""

import importlib.util
import json

import pytest
import torch
from transformers import AutoTokenizer, ConvBertConfig, ConvBertForSequenceClassification, ConvBertModel

from bertkernels.cli.main import main
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining

TINY = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s"]

installed = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not installed, reason="not installed: pip install 'bertkernels[onnx]'")


def export(*arguments):
    return main(["export", *map(str, arguments)])


def error_of(capsys, *arguments):
    capsys.readouterr()  # what came before
    assert export(*arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("bertkernels export: ") and len(shown.strip().splitlines()) == 1
    return shown


@pytest.fixture
def theirs(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "theirs"
    config = ConvBertConfig(**TINY, embedding_size=16, num_hidden_layers=1, num_groups=2, num_labels=3)
    ConvBertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    return folder


@pytest.fixture
def pair(tmp_path):
    config = ElectraConfig(discriminator=EncoderConfig(**TINY, plan="mixed ffn"))
    ElectraForPreTraining(config).save_pretrained(tmp_path / "pair")
    return tmp_path / "pair"


@needs_onnx
def test_hugging_face_model(theirs, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(theirs, out / "model.onnx") == 0
    shown = capsys.readouterr().out
    assert "model.onnx: ConvBertForSequenceClassification, " in shown
    assert "logits: differs from the model's by " in shown
    assert sorted(file.name for file in out.iterdir()) == [
        "config.json",
        "model.onnx",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert AutoTokenizer.from_pretrained(out)("hello worlds")["input_ids"] == [2, 5, 6, 7, 3]
    assert json.loads((out / "config.json").read_text())["architectures"] == ["ConvBertForSequenceClassification"]
    assert "model.onnx exists; --overwrite replaces it" in error_of(capsys, theirs, out / "model.onnx")
    assert "config.json exists; --overwrite replaces it" in error_of(capsys, theirs, out / "other.onnx")


@needs_onnx
def test_part_of_a_pair_into_its_own_folder(pair, capsys):
    before = {file.name: file.read_bytes() for file in pair.iterdir()}
    assert export(pair, pair / "discriminator.onnx", "--part", "discriminator") == 0
    assert "EncoderForReplacedTokenDetection" in capsys.readouterr().out
    after = {file.name: file.read_bytes() for file in pair.iterdir()}
    assert after.pop("discriminator.onnx") and after == before


@needs_onnx
def test_what_cannot_be_exported(theirs, pair, tmp_path, capsys):
    out = tmp_path / "out" / "model.onnx"
    assert "ElectraForPreTraining cannot be exported" in error_of(capsys, pair, out)
    assert "has no part 'tail'" in error_of(capsys, pair, out, "--part", "tail")
    assert "--unpad is for Hugging Face models" in error_of(capsys, pair, out, "--part", "encoder", "--unpad")
    assert "--part is for models of ours" in error_of(capsys, theirs, out, "--part", "encoder")
    assert "holds no model: there is no config.json" in error_of(capsys, tmp_path, out)
    assert "opset must be at least 18, got 9" in error_of(capsys, theirs, out, "--opset", 9)
    assert "unrecognized arguments: --too; `bertkernels export --help`" in error_of(capsys, theirs, out, "--too")
    config = theirs / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"architectures": ["ConvBertForWeather"]}))
    assert "names the unknown architecture 'ConvBertForWeather'" in error_of(capsys, theirs, out)
    config.write_text(json.dumps(content | {"model_type": "gpt2"}))
    assert "models of type 'gpt2' cannot be exported" in error_of(capsys, theirs, out)
    config.write_text("{")
    assert "not a valid model configuration" in error_of(capsys, theirs, out)
    assert not out.parent.exists()


@needs_onnx
def test_weights_that_are_missing(tmp_path, capsys):
    folder = tmp_path / "theirs"
    ConvBertModel(ConvBertConfig(**TINY, num_hidden_layers=1)).save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"architectures": ["ConvBertForMaskedLM"]}))
    assert "weights of ConvBertForMaskedLM, such as " in error_of(capsys, folder, tmp_path / "model.onnx")


def test_without_the_extra(theirs, tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else found(name, *rest))
    shown = error_of(capsys, theirs, tmp_path / "out" / "model.onnx")
    assert "ONNX files need onnx: pip install 'bertkernels[onnx]'" in shown
    assert not (tmp_path / "out").exists()
