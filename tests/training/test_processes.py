"""Two processes train as one process that accumulates two batches."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, generator_config
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.pretrain import pretrain
from bertkernels.training.training_arguments import FinetuneRunArguments

# Nothing random: no dropout.
_SIZES = {
    "plan": "2*(mixed ffn)",
    "hidden_size": 32,
    "embedding_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_BATCHES = {"examples": {"per_device_train_batch_size": 4}, "tokens": {"tokens_per_batch": 128}}
# An uneven last batch would be filled up differently.
_STEPS = {"max_steps": 20, "logging_steps": 5, "save_steps": 10, "dataloader_drop_last": True}

# Writes down which (epoch, index) each process trains on.
_RECORD = """
import os
from bertkernels.training.pretraining_trainer import PretrainingSet

read = PretrainingSet.__getitems__

def recorded(self, keys):
    with open(f"{os.environ['SEEN']}-{os.environ['RANK']}", "a") as file:
        file.writelines(f"{epoch} {index}\\n" for epoch, index in keys)
    return read(self, keys)

PretrainingSet.__getitems__ = recorded
"""


@pytest.fixture
def pretraining(tiny_pretraining, tmp_path):
    """Arguments of a run without randomness: the discriminator, which reads samples, does not train."""

    def make(name, **settings):
        arguments, run = tiny_pretraining(tmp_path / name, **settings)
        discriminator = EncoderConfig(**_SIZES)
        config = ElectraConfig(generator=generator_config(discriminator, 0.5), discriminator=discriminator)
        path = tmp_path / "config.json"
        path.write_text(config.to_json_string(use_diff=False))
        arguments.preset = arguments.generator_size = None
        for size in _SIZES.keys() & vars(arguments).keys():
            setattr(arguments, size, None)
        arguments.config_file = str(path)
        arguments.discriminator_weight = 0.0
        return arguments, run

    return make


@pytest.mark.parametrize("batches", _BATCHES)
def test_pretraining(pretraining, two_processes, losses, tmp_path, monkeypatch, batches):
    arguments, run = pretraining("one", gradient_accumulation_steps=2, **_STEPS, **_BATCHES[batches])
    pretrain(arguments, run)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    two = {**vars(arguments), **_STEPS, **_BATCHES[batches], "output_dir": tmp_path / "two"}
    two_processes("pretrain", two, "torchrun" if batches == "examples" else None, preamble=_RECORD)

    one, other = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [entry["step"] for entry in other] == [5, 10, 15, 20]
    for expected, found in zip(one, other, strict=True):
        for name in ("loss", "generator_loss", "grad_norm", "masked_lm_accuracy", "padding_share", "epoch"):
            assert found[name] == pytest.approx(expected[name], abs=1e-5), (name, found["step"])

    seen = [(tmp_path / f"seen-{rank}").read_text().splitlines() for rank in (0, 1)]
    for epoch in ("0 ", "1 "):
        shares = [[key for key in keys if key.startswith(epoch)] for keys in seen]
        assert len(set(shares[0]) | set(shares[1])) == len(shares[0]) + len(shares[1]) > 0
    if batches == "examples":
        assert {len([key for key in keys if key.startswith("0 ")]) for keys in seen} == {60}  # of 122, in fours


@pytest.fixture
def finetuning(tmp_path):
    """Settings of a run without randomness on made-up sentences of 4 to 24 words."""
    words = [f"word{number}" for number in range(40)]
    folder = tmp_path / "encoder"
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *words])}
    tokenizer_from_vocabulary(vocabulary).save_pretrained(folder)
    torch.manual_seed(0)
    EncoderForSequenceClassification(EncoderConfig(**_SIZES, vocab_size=len(vocabulary))).save_pretrained(folder)
    generator = random.Random(0)
    for name, rows in (("train.tsv", 120), ("dev.tsv", 50)):
        lines = ["sentence\tlabel"]
        for _ in range(rows):
            chosen = generator.choices(words, k=generator.randint(4, 24))
            lines.append(f"{' '.join(chosen)}\t{int(words[0] < chosen[0] < words[20])}")
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return {
        "model_name_or_path": str(folder),
        "train_file": str(tmp_path / "train.tsv"),
        "validation_file": str(tmp_path / "dev.tsv"),
    }


def test_finetuning(finetuning, two_processes, losses, tmp_path):
    # Batches of evaluation are full: transformers' mean loss would count the rows that fill up the last one.
    settings = {"per_device_eval_batch_size": 5, "learning_rate": 1e-3, **_STEPS, **_BATCHES["tokens"]}
    run = FinetuneRunArguments(
        output_dir=str(tmp_path / "one"),
        gradient_accumulation_steps=2,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        **settings,
    )
    finetune(FinetuneArguments(**finetuning), run)
    two_processes("finetune", {**finetuning, **settings, "output_dir": tmp_path / "two"}, "accelerate")

    one, other = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [entry["step"] for entry in other] == [5, 10, 15, 20]
    for expected, found in zip(one, other, strict=True):
        for name in ("loss", "grad_norm", "padding_share", "epoch"):
            assert found[name] == pytest.approx(expected[name], abs=1e-5), (name, found["step"])
    results = [json.loads((tmp_path / name / "eval_results.json").read_text()) for name in ("one", "two")]
    for name in ("eval_loss", "eval_accuracy", "eval_f1"):
        assert results[1][name] == pytest.approx(results[0][name], abs=1e-5)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-5, rtol=0, msg=name)
