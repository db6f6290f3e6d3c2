"""A teacher of four blocks, 32 wide, and what makes students of two, 16 wide."""

import random

import pytest
import torch

from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.training_arguments import FinetuneRunArguments

WORDS = ["good", "bad", "a", "row", "the", "kernel", "fast", "slow"]
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 128}
STUDENT = {"plan": "2*(attention ffn)", "hidden_size": 16, "intermediate_size": 32}


@pytest.fixture
def vocabulary():
    return {word: number for number, word in enumerate([*SPECIAL_TOKENS, *WORDS])}


@pytest.fixture
def teacher(tmp_path, vocabulary):
    """Makes a folder with a classifier of random weights; keyword arguments go to its configuration."""

    def make(name="teacher", model=EncoderForSequenceClassification, words=vocabulary, **changes):
        tokenizer_from_vocabulary(words).save_pretrained(tmp_path / name)
        labels = {} if model is EncoderModel else {"id2label": {0: "bad", 1: "good"}}
        config = EncoderConfig(
            **{"vocab_size": len(words), "plan": "4*(attention ffn)", "initializer_range": 0.2}
            | SIZES
            | labels
            | changes
        )
        torch.manual_seed(1)
        model(config).save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return make


@pytest.fixture
def rows(tmp_path):
    """Sentences of different lengths and their labels, to train and to evaluate on."""
    generator = random.Random(0)
    for name, count in (("train.tsv", 48), ("dev.tsv", 20)):
        lines = ["sentence\tlabel"]
        for _ in range(count):
            words = generator.choices(WORDS, k=generator.randint(2, 9))
            lines.append(f"{' '.join(words)}\t{'good' if words.count('good') else 'bad'}")
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return {"train_file": str(tmp_path / "train.tsv"), "validation_file": str(tmp_path / "dev.tsv")}


@pytest.fixture
def glue(tmp_path):
    """A folder of GLUE with three tasks, of classes and of numbers, of different sizes."""
    generator, folder = random.Random(0), tmp_path / "glue"

    def write(name, header, count, row):
        for split, rows in (("train", count), ("dev", 12)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            lines = [header, *(row([*generator.choices(WORDS, k=6)]) for _ in range(rows))]
            (folder / name / f"{split}.tsv").write_text("\n".join(lines) + "\n")

    write("SST-2", "sentence\tlabel", 40, lambda words: f"{' '.join(words)}\t{int('good' in words)}")
    write(
        "RTE",
        "sentence1\tsentence2\tlabel",
        20,
        lambda words: f"{' '.join(words[:3])}\t{words[3]}\t{'' if words[3] in words[:3] else 'not_'}entailment",
    )
    write("STS-B", "sentence1\tsentence2\tscore", 12, lambda words: f"{words[0]}\t{words[1]}\t{len(set(words[:5]))}")
    return str(folder)


@pytest.fixture
def run_arguments(tmp_path):
    def make(name="out", **changes):
        settings = {
            "max_steps": 4,
            "per_device_train_batch_size": 8,
            "save_strategy": "no",
            "logging_steps": 2,
            "learning_rate": 1e-2,
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
        }
        return FinetuneRunArguments(output_dir=str(tmp_path / name), **settings | changes)

    return make


@pytest.fixture
def arguments(teacher, rows):
    """Makes the flags of distilling the teacher into a student half as deep and wide."""

    def make(**changes):
        found = {"teacher_model_name_or_path": changes.pop("teacher_model_name_or_path", None) or teacher()}
        return DistillArguments(**found | STUDENT | rows | changes)

    return make
