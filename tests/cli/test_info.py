import json

import pytest

from bertkernels.cli.main import main
from bertkernels.models.cost import parameters, training_flops
from bertkernels.models.operations import ELECTRA, PRODUCTS
from bertkernels.models.presets import electra_preset, preset

SMALL = "--hidden_size 32 --num_attention_heads 4 --intermediate_size 48 --vocab_size 50".split()


def info(capsys, *flags):
    assert main(["info", "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_without_an_encoder_it_is_about_the_machine(capsys):
    assert {"ops", "packages", "extension"} <= info(capsys).keys()


@pytest.mark.parametrize(("name", "batch"), [("lvbert-small", 128), ("convbert-base", 256)])
def test_a_presets_pretraining_is_the_published_one(name, batch, capsys):
    found = info(capsys, "--preset", name, "--seconds", "0")
    pair, training = electra_preset(name), found["pretraining"]
    assert found["plan"] == preset(name).plan and found["parts"][-1]["parameters"] == parameters(preset(name))
    assert (training["steps"], training["batch"], training["tokens"]) == (10**6, batch, 128)
    assert training["parameters"] == parameters(pair)
    for counting in (PRODUCTS, ELECTRA):
        assert training["flops"][counting.name] == training_flops(pair, 128, batch * 10**6, counting)


def test_a_plan_of_ones_own(capsys):
    flags = ["--plan", "2*(dynamic_conv ffn[width=64])", *SMALL, "--tokens", "16", "32"]
    found = info(capsys, *flags, "--seconds", "0.01", "--max_steps", "10", "--generator_size", "0.5")
    assert found["sizes"]["hidden_size"] == 32 and found["pretraining"]["generator_hidden_size"] == 16
    assert [row["part"] for row in found["parts"]] == ["embeddings", "dynamic_conv", "ffn[width=64]", "encoder"]
    for row in found["parts"]:
        assert list(row["flops"]) == ["16", "32"]
        assert list(row["milliseconds"]) == ([] if row["part"] == "embeddings" else ["16", "32"])


def test_the_table(capsys):
    assert main(["info", "--plan", "dynamic_conv ffn", *SMALL, "--seconds", "0.01", "--training"]) == 0
    captured = capsys.readouterr()
    assert "part          number  parameters  MFLOPs, 128 tokens  ms, 8 × 128 tokens" in captured.out
    assert "medians of forward and backward passes on cpu" in captured.out
    assert "1,000,000 steps of 128 × 128 tokens" in captured.out
    assert "timing 8 × 128 tokens" in captured.err  # progress


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--plan fnn", "unknown sub-layer 'fnn', did you mean 'ffn'?"),
        ("--preset lvbert-smal", "unknown preset 'lvbert-smal', did you mean 'lvbert-small'?"),
        ("--preset lvbert-small --hidden_size 250", "hidden_size 250 must be divisible by num_attention_heads 4"),
        ("--preset lvbert-small --tokens 513", "sequences of 513 tokens are longer than max_position_embeddings, 512"),
        ("--plan ffn --tokens 0", "--tokens must be at least 1, got 0"),
        ("--plan ffn --batch_size 0", "--batch_size must be at least 1, got 0"),
        ("--plan ffn --seconds -1", "--seconds must be a number from 0, got -1.0"),
        ("--plan ffn --generator_size 2", "--generator_size must be above 0 and at most 1, got 2.0"),
        ("--hidden_size 32", "--hidden_size needs --plan or --preset"),
    ],
)
def test_bad_flags(flags, message, capsys):
    assert main(["info", *flags.split()]) == 2
    assert message in capsys.readouterr().err
