"""The script that times EfficientBERT beside its own products runs, and knows which products those are."""

import re

import pytest

from bertkernels.bench.case import FORWARD, Case
from bertkernels.bench.matrix_products import encoder_operands, operations
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.cost import forward_flops
from bertkernels.models.encoder import EncoderModel

_TINY = {
    "vocab_size": 50,
    "embedding_size": 16,
    "trigram_embeddings": True,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "plan": "(attention expression_ffn[ratio=2, stack=3]) attention",
}


def test_it_prints_a_line_for_each_preset(import_benchmark, monkeypatch, capsys):
    efficientbert = import_benchmark("efficientbert")
    monkeypatch.setattr(efficientbert, "preset", lambda name, **changes: EncoderConfig(**_TINY, **changes))
    efficientbert.main(
        ["--presets", "one", "two", "--batch", "2", "--tokens", "8", "--seconds", "0.1", "--threads", "1"]
    )
    head, titles, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("B2·T8, float32, 1 threads") and titles.split()[0] == "parameters"
    assert [line.split()[0] for line in lines] == ["one", "two"]
    assert all(re.search(r" ms +\d+\.\d\d +\d+\.\d\d$", line) for line in lines)


@pytest.mark.parametrize("plan", [_TINY["plan"], "linear_attention ffn"])
def test_its_products_are_all_of_the_encoders(plan):
    model = EncoderModel(EncoderConfig(**{**_TINY, "plan": plan}))
    operands = list(encoder_operands(model, Case("encoder", "base", 2, 8, FORWARD)))
    assert operations(operands, FORWARD) == 2 * forward_flops(model.config, 8)
