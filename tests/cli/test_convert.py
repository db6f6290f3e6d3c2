"""`bertkernels convert` from the command line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, ConvBertConfig, ConvBertModel

from bertkernels.cli.main import main
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining
from bertkernels.models.encoder import EncoderModel

RECORDED = Path(__file__).resolve().parents[1] / "golden" / "data" / "convbert" / "c_ratio4_k5"
TINY = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "plan": "2*(mixed ffn)"}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s"]


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


def assert_same_weights(first, second):
    first, second = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_tensorflow_checkpoint(tmp_path, capsys):
    assert convert(RECORDED / "tf_ckpt", tmp_path / "new" / "model", "--config", RECORDED / "config.json") == 0
    shown = capsys.readouterr().out
    for part in ("TensorFlow checkpoint", "EncoderModel, ", "(mixed ffn)", "head_ratio=4", "padding=reference"):
        assert part in shown
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["model"]  # nothing temporary stays
    model = AutoModel.from_pretrained(tmp_path / "new" / "model")
    assert isinstance(model, EncoderModel)
    assert f"{model.num_parameters():,} parameters" in shown
    assert convert(RECORDED / "tf_ckpt" / "model.ckpt", tmp_path / "exact", "--padding", "exact") == 0
    assert AutoModel.from_pretrained(tmp_path / "exact").config.padding == "exact"
    assert_same_weights(tmp_path / "exact", tmp_path / "new" / "model")


def test_huggingface_and_back_with_its_tokenizer(tmp_path, capsys):
    config = ConvBertConfig(
        vocab_size=60, hidden_size=32, embedding_size=16, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0
    )
    ConvBertModel(config).save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    assert convert(tmp_path / "theirs", tmp_path / "ours") == 0
    assert "tokenizer: vocab.txt" in capsys.readouterr().out
    assert AutoTokenizer.from_pretrained(tmp_path / "ours")("Hello worlds")["input_ids"] == [2, 5, 6, 7, 3]
    assert convert(tmp_path / "ours", tmp_path / "back", "--to", "huggingface") == 0
    assert "as Hugging Face convbert, ConvBertModel" in capsys.readouterr().out
    assert_same_weights(tmp_path / "theirs", tmp_path / "back")
    assert AutoTokenizer.from_pretrained(tmp_path / "back")("hello")["input_ids"] == [2, 5, 3]


def test_parts_of_our_pair(tmp_path):
    config = EncoderConfig(**TINY)
    pair = ElectraForPreTraining(ElectraConfig(discriminator=config))
    pair.save_pretrained(tmp_path / "pair")
    for part, module in (
        ("generator", pair.generator),
        ("discriminator", pair.discriminator),
        ("encoder", pair.discriminator.model),
    ):
        assert convert(tmp_path / "pair", tmp_path / part, "--part", part) == 0
        loaded = type(module).from_pretrained(tmp_path / part)
        wanted = module.state_dict()
        assert loaded.state_dict().keys() == wanted.keys()
        assert all(torch.equal(weight, wanted[name]) for name, weight in loaded.state_dict().items())


def test_exact_padding_is_said_to_change_in_theirs(tmp_path, capsys):
    EncoderModel(EncoderConfig(**TINY)).save_pretrained(tmp_path / "ours")
    assert convert(tmp_path / "ours", tmp_path / "theirs", "--to", "convbert") == 0
    assert "padding took no part in convolutions before" in capsys.readouterr().out


def error_of(capsys, *arguments):
    capsys.readouterr()  # what came before
    assert convert(*arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("bertkernels convert: ") and "Traceback" not in shown
    return shown


def test_destination_is_not_overwritten_unasked(tmp_path, capsys):
    destination = tmp_path / "model"
    destination.mkdir()
    (destination / "mine.txt").write_text("mine")
    assert "is not empty; --overwrite_output_dir" in error_of(capsys, RECORDED / "tf_ckpt", destination)
    assert [file.name for file in destination.iterdir()] == ["mine.txt"]
    (destination / "model-00001-of-00002.safetensors").write_bytes(b"of the former model")
    assert convert(RECORDED / "tf_ckpt", destination, "--overwrite_output_dir") == 0
    assert sorted(file.name for file in destination.iterdir()) == ["config.json", "mine.txt", "model.safetensors"]
    file = tmp_path / "file"
    file.write_text("")
    assert "is a file" in error_of(capsys, RECORDED / "tf_ckpt", file)


def test_a_failed_conversion_leaves_nothing(tmp_path, capsys):
    shutil.copytree(RECORDED / "tf_ckpt", tmp_path / "checkpoint")
    data = tmp_path / "checkpoint" / "model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[5000] ^= 1
    data.chmod(0o644)
    data.write_bytes(content)
    shown = error_of(capsys, tmp_path / "checkpoint", tmp_path / "model")
    assert "variable 'electra/" in shown and "does not match its checksum" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_sources_that_are_none(tmp_path, capsys):
    assert "does not exist" in error_of(capsys, tmp_path / "none", tmp_path / "model")
    assert "is neither a TensorFlow checkpoint" in error_of(capsys, tmp_path, tmp_path / "model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert "its model_type is 'gpt2'" in error_of(capsys, tmp_path, tmp_path / "model")
    (tmp_path / "config.json").write_text("{")
    assert "is not JSON" in error_of(capsys, tmp_path, tmp_path / "model")
    assert "are the same folder" in error_of(capsys, tmp_path, tmp_path)


def test_flags_that_do_not_belong(tmp_path, capsys):
    EncoderModel(EncoderConfig(**TINY)).save_pretrained(tmp_path / "ours")
    shown = error_of(capsys, RECORDED / "tf_ckpt", tmp_path / "model", "--num_attention_heads", 0)
    assert "num_attention_heads must be a whole number from 1, got 0" in shown
    shown = error_of(capsys, tmp_path / "ours", tmp_path / "model", "--num_attention_heads", 4)
    assert "--num_attention_heads is for TensorFlow checkpoints" in shown
    assert "has no part 'generator'" in error_of(capsys, tmp_path / "ours", tmp_path / "model", "--part", "generator")
    with pytest.raises(SystemExit) as stopped:
        convert(tmp_path / "ours", tmp_path / "model", "--too", "bert")
    assert stopped.value.code == 2
