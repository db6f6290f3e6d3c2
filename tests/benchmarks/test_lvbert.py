"""The script that times LV-BERT beside its own products runs, and knows which products those are."""

import re

from bertkernels.bench.case import FORWARD, Case
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel

_TINY = {
    "vocab_size": 50,
    "embedding_size": 16,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "plan": "dynamic_conv (attention ffn) dynamic_conv",
}


def test_it_says_how_much_longer_the_encoder_takes(import_benchmark, monkeypatch, capsys):
    lvbert = import_benchmark("lvbert")
    monkeypatch.setattr(lvbert, "preset", lambda name: EncoderConfig(**_TINY))
    lvbert.main(["--batch", "2", "--tokens", "8", "--seconds", "0.1", "--threads", "1"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("lvbert-small, B2·T8, float32, 1 threads")
    assert [bool(re.search(r"encoder ÷ this \d+\.\d\d$", line)) for line in lines] == [False, True, True] * 2


def test_its_own_products_are_those_of_all_layers(import_benchmark, monkeypatch):
    lvbert, found = import_benchmark("lvbert"), []
    monkeypatch.setattr(lvbert, "products", lambda operands, both: found.append(len(operands)) or lvbert.Peer(print))
    lvbert.calls(EncoderModel(EncoderConfig(**_TINY)), Case("encoder", "small", 2, 8, FORWARD))
    # a projection of the embeddings; five layers a convolution; four and two products of heads; two
    assert found == [1 + 2 * 5 + 4 + 2 + 2, 1 + 2 * 4 + 4 + 2 + 2]
