"""A tiny fine-tuned predecessor of four blocks, and sentences whose words tell the label."""

import random

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.training.theseus.arguments import TheseusArguments, TheseusRunArguments

_GOOD, _BAD = ("fast", "small", "kept"), ("slow", "large", "until")
_OTHER = ("the", "kernel", "row", "and")
_SIZES = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 32}
_LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


def _vocabulary():
    return {word: number for number, word in enumerate([*SPECIAL_TOKENS, *_GOOD, *_BAD, *_OTHER])}


@pytest.fixture
def files(tmp_path):
    generator = random.Random(0)
    for name, rows in (("train.tsv", 96), ("dev.tsv", 32)):
        lines = ["sentence\tlabel"]
        for _ in range(rows):
            label = generator.choice(("good", "bad"))
            words = generator.choices(_GOOD if label == "good" else _BAD, k=2)
            words += generator.choices(_OTHER, k=generator.randint(1, 5))
            generator.shuffle(words)
            lines.append(f"{' '.join(words)}\t{label}")
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return {"train_file": str(tmp_path / "train.tsv"), "validation_file": str(tmp_path / "dev.tsv")}


@pytest.fixture
def predecessor(tmp_path):
    """Makes the folder of a classifier of ours with random weights; keyword arguments go to its configuration."""

    def make(name="predecessor", **changes):
        folder = tmp_path / name
        tokenizer_from_vocabulary(_vocabulary()).save_pretrained(folder)
        settings = {"plan": "4*(attention ffn)", "pooler": True, "initializer_range": 0.2}
        config = EncoderConfig(**{**_SIZES, **_LABELS, **settings, "vocab_size": len(_vocabulary()), **changes})
        torch.manual_seed(0)
        EncoderForSequenceClassification(config).save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture
def bert(tmp_path):
    """The folder of Hugging Face's BERT of the same sizes."""

    def make(name="bert", model_class=BertForSequenceClassification):
        folder = tmp_path / name
        tokenizer_from_vocabulary(_vocabulary()).save_pretrained(folder)
        config = BertConfig(
            **_SIZES, **_LABELS, num_hidden_layers=4, vocab_size=len(_vocabulary()), initializer_range=0.2
        )
        torch.manual_seed(0)
        model_class(config).save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture
def compression(files, predecessor, tmp_path):
    """Makes the arguments of a run of a fraction of a second; `run` holds changes of the run's."""

    def make(name="successor", run=None, **changes):
        settings = {
            "successor_blocks": "2",
            "replacing_rate": 0.5,
            "measure_seconds": 0.0,
            "module_table": False,
            "max_seq_length": 16,
        }
        if "model_name_or_path" not in changes:
            changes["model_name_or_path"] = predecessor()
        arguments = TheseusArguments(**files, **{**settings, **changes})
        of_run = {
            "max_steps": 8,
            "learning_rate": 1e-3,
            "logging_steps": 3,
            "save_strategy": "no",
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 16,
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
        }
        return arguments, TheseusRunArguments(output_dir=str(tmp_path / name), **{**of_run, **(run or {})})

    return make
