import json
import random
from dataclasses import replace

import datasets
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from bertkernels.errors import InputError
from bertkernels.models.electra import ElectraForPreTraining
from bertkernels.models.heads import EncoderForMaskedLM, EncoderForReplacedTokenDetection
from bertkernels.training.masking_collator import MaskingCollator
from bertkernels.training.pretrain import pretrain
from bertkernels.training.pretraining_trainer import PretrainingSet
from bertkernels.training.sampler import EpochSampler
from bertkernels.training.train_log import LOG_FILE

METRICS = {
    "loss",
    "generator_loss",
    "discriminator_loss",
    "masked_lm_accuracy",
    "sampled_masked_lm_accuracy",
    "rtd_accuracy",
    "rtd_precision",
    "rtd_recall",
    "rtd_auc",
    "padding_share",
    "tokens_per_second",
    "tflops",
    "mfu",
    "learning_rate",
    "grad_norm",
    "epoch",
    "step",
}


@pytest.mark.parametrize("masking", ["without_replacement", "electra"])
def test_run_saves_and_logs_what_it_says(tiny_pretraining, tmp_path, capsys, masking):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=10, report_to="tensorboard")
    arguments = replace(arguments, masking=masking, untied_generator_embeddings=masking == "electra")
    result = pretrain(arguments, run)

    summary = capsys.readouterr().out
    assert f"{result.parameters:,}" in summary and "10 of 8 examples" in summary and "2*(mixed ffn)" in summary
    pair = ElectraForPreTraining.from_pretrained(result.output_dir)
    alone = EncoderForReplacedTokenDetection.from_pretrained(result.encoder)
    for name, weight in alone.state_dict().items():
        assert torch.equal(weight, pair.discriminator.state_dict()[name]), name
    assert pair.config.duplicate_draws == ("average" if masking == "electra" else "first")
    assert len(AutoTokenizer.from_pretrained(result.encoder)) == alone.config.vocab_size
    assert list((tmp_path / "run" / "runs").rglob("events.out.tfevents.*"))

    entries = [json.loads(line) for line in (tmp_path / "run" / LOG_FILE).read_text().splitlines()]
    assert entries == result.log
    steps = [entry for entry in entries if "loss" in entry]
    assert [entry["step"] for entry in steps] == [5, 10]
    for entry in steps:
        assert set(entry) == METRICS
        weighted = entry["generator_loss"] + 50 * entry["discriminator_loss"]
        assert entry["loss"] == pytest.approx(weighted, rel=0.05), "token-weighted and per-batch means are near"


def test_it_learns(tiny_pretraining, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=60, learning_rate=3e-3, save_strategy="no")
    log = [entry for entry in pretrain(arguments, run).log if "loss" in entry]
    assert log[-1]["generator_loss"] < log[0]["generator_loss"] - 0.3
    assert log[-1]["loss"] < log[0]["loss"]


def test_masked_language_model(tiny_pretraining, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=60, learning_rate=3e-3, save_strategy="no")
    result = pretrain(replace(arguments, objective="masked_lm", generator_size=None), run)
    log = [entry for entry in result.log if "loss" in entry]
    assert log[-1]["loss"] < log[0]["loss"] - 0.3
    assert 0 < log[-1]["masked_lm_accuracy"] < 1
    assert result.encoder == result.output_dir
    model = EncoderForMaskedLM.from_pretrained(result.encoder)
    assert model.num_parameters() == result.parameters
    assert len(AutoTokenizer.from_pretrained(result.encoder)) == model.config.vocab_size


def test_masked_language_model_has_no_generator(tiny_pretraining, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=1)
    with pytest.raises(InputError, match="--generator_size is for --objective electra"):
        pretrain(replace(arguments, objective="masked_lm", generator_size=0.5), run)


@pytest.mark.parametrize("padding", ["exact", "reference"])
@pytest.mark.parametrize("objective", ["electra", "masked_lm"])
def test_bf16(tiny_pretraining, tmp_path, objective, padding):
    logs = []
    for name, bf16 in (("full", False), ("half", True)):
        arguments, run = tiny_pretraining(tmp_path / name, max_steps=5, save_strategy="no", bf16=bf16)
        size = arguments.generator_size if objective == "electra" else None
        arguments = replace(arguments, objective=objective, generator_size=size, padding=padding)
        result = pretrain(arguments, run)
        logs.append(result.log[0])
        saved = load_file(result.output_dir / "model.safetensors")
        assert {weight.dtype for weight in saved.values()} == {torch.float32}
    assert logs[1]["loss"] == pytest.approx(logs[0]["loss"], rel=0.02)
    assert logs[1]["loss"] != logs[0]["loss"]


def test_the_data_order_is_a_function_of_seed_and_epoch():
    sampler = EpochSampler(100, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(100))
    torch.rand(3)
    assert list(sampler) == first
    sampler.epoch = 1
    assert list(sampler) != first
    assert list(EpochSampler(100, seed=2)) != first
    assert list(EpochSampler(100, seed=1, with_epoch=True)) == [(0, index) for index in first]


def test_loader_workers_that_outlive_an_epoch_see_the_next():
    generator = random.Random(0)
    ids = [[2, *generator.choices(range(5, 50), k=20), 3] for _ in range(16)]
    examples = PretrainingSet(datasets.Dataset.from_dict({"input_ids": ids, "first_length": [22] * 16}))
    collator = MaskingCollator(pad_id=0, cls_id=2, sep_id=3, mask_id=4, max_length=32, seed=0)

    def epochs(workers):
        sampler = EpochSampler(len(examples), seed=0, with_epoch=True)
        loader = DataLoader(
            examples,
            batch_size=4,
            sampler=sampler,
            collate_fn=collator,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for sampler.epoch in range(2):
            yield [batch["input_ids"] for batch in loader]

    alone, helped = list(epochs(0)), list(epochs(2))
    for epoch in range(2):
        assert all(torch.equal(a, b) for a, b in zip(alone[epoch], helped[epoch], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*alone, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": None}, "give either --preset or --config_file"),
        ({"preset": "convbert-smal"}, "convbert-small"),
        ({"train_file": None}, "give either --text_source builtin or --train_file"),
        ({"train_file": ["absent.txt"]}, "absent.txt: no such text file"),
        ({"plan": "2*(mixed fnn)"}, "fnn"),
        ({"generator_size": 0.0}, "--generator_size must be above 0"),
        ({"max_seq_length": 1000}, "above the model's max_position_embeddings"),
        ({"max_seq_length": 4}, "leaves no room"),
        ({"mask_probability": 1.5}, "--mask_probability"),
        ({"preset": None, "config_file": "absent.json"}, "absent.json: No such file"),
        ({"vocab_file": "absent.txt"}, "absent.txt: No such file"),
        ({"vocab_file": "a", "tokenizer_name": "b"}, "not both"),
        ({"vocab_size": 10}, "--vocab_size"),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(tiny_pretraining, tmp_path, changes, message):
    arguments, run = tiny_pretraining(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        pretrain(replace(arguments, **changes), run)
    assert not (tmp_path / "run").exists()


def test_folders_are_not_overwritten_unasked(tiny_pretraining, tmp_path):
    folder = tmp_path / "run"
    arguments, run = tiny_pretraining(folder, max_steps=2, save_steps=1)
    pretrain(arguments, run)
    (folder / "mine.txt").write_text("keep this")
    with pytest.raises(InputError, match="is not empty.*--overwrite_output_dir"):
        pretrain(*tiny_pretraining(folder, max_steps=1))
    result = pretrain(*tiny_pretraining(folder, max_steps=1, save_steps=1, overwrite_output_dir=True))
    assert result.steps == 1
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-1"]
    assert (folder / "mine.txt").read_text() == "keep this"
    assert [entry["step"] for entry in map(json.loads, (folder / LOG_FILE).read_text().splitlines())] == [1]


def test_resuming_needs_a_checkpoint(tiny_pretraining, tmp_path):
    with pytest.raises(InputError, match="there is no checkpoint in"):
        pretrain(*tiny_pretraining(tmp_path / "run", resume_from_checkpoint="last"))
    with pytest.raises(InputError, match="is no checkpoint"):
        pretrain(*tiny_pretraining(tmp_path / "run", resume_from_checkpoint=str(tmp_path)))
