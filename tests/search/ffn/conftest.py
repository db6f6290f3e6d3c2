"""A tiny supernet of stacked layers, a teacher, and sentences to tell apart: what a search over feed-forward layers
needs."""

import random
from functools import partial

import pytest
import torch

from bertkernels.cli.ffn_flags import parse_ffn_search
from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForSequenceClassification

WORDS = ["good", "bad", "a", "row", "the", "kernel", "fast", "slow"]
VOCABULARY = {word: number for number, word in enumerate([*SPECIAL_TOKENS, *WORDS])}
SIZES = {"num_attention_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.2, "pooler": True}
BUDGET = {"min_parameters": 4000, "max_parameters": 6500, "counted_projection": 16}


@pytest.fixture(autouse=True)
def one_thread():
    """Equal results need one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _classifier(folder, **changes):
    torch.manual_seed(0)
    config = EncoderConfig(**SIZES | {"vocab_size": len(VOCABULARY), "id2label": {0: "bad", 1: "good"}} | changes)
    EncoderForSequenceClassification(config).save_pretrained(folder)
    tokenizer_from_vocabulary(VOCABULARY).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def ffn_supernet(tmp_path_factory):
    """Two blocks of four stacked layers, 16 wide, with a head."""
    plan = "2*(attention expression_ffn[stack=4])"
    return _classifier(tmp_path_factory.mktemp("ffn-supernet"), plan=plan, hidden_size=16, intermediate_size=16)


@pytest.fixture(scope="session")
def ffn_teacher(tmp_path_factory):
    """Four plain blocks, 16 wide."""
    folder = tmp_path_factory.mktemp("ffn-teacher")
    return _classifier(folder, plan="4*(attention ffn)", hidden_size=16, intermediate_size=32)


@pytest.fixture(scope="session")
def sentences(tmp_path_factory):
    """Rows to train and to evaluate on: whether a sentence has "good" in it."""
    generator, folder = random.Random(0), tmp_path_factory.mktemp("sentences")
    for name, count in (("train.tsv", 48), ("dev.tsv", 16)):
        lines = ["sentence\tlabel"]
        for _ in range(count):
            words = generator.choices(WORDS, k=generator.randint(2, 9))
            lines.append(f"{' '.join(words)}\t{'good' if 'good' in words else 'bad'}")
        (folder / name).write_text("\n".join(lines) + "\n")
    return {"train_file": str(folder / "train.tsv"), "validation_file": str(folder / "dev.tsv")}


@pytest.fixture
def ffn_values(ffn_supernet, ffn_teacher, sentences, tmp_path):
    """The flags of a search of a few seconds, by name."""

    def make(stage=1, **changes):
        values = {
            "space": "ffn",
            "stage": stage,
            "supernet": ffn_supernet,
            "output_dir": str(tmp_path / "search"),
            "sampler": "random",
            "evaluations": 5,
            "max_seq_length": 16,
            "per_device_eval_batch_size": 16,
            "use_cpu": True,
            "disable_tqdm": True,
            **sentences,
            **BUDGET,
        }
        if stage != 3:
            values |= {"teacher_model_name_or_path": ffn_teacher, "max_steps": 2, "per_device_train_batch_size": 8}
        return {name: value for name, value in (values | changes).items() if value is not None}

    return make


@pytest.fixture
def ffn_flags(ffn_values):
    """The same, as what a search takes."""

    def make(stage=1, **changes):
        values = ffn_values(stage, **changes)
        return partial(parse_ffn_search, [part for name, value in values.items() for part in (f"--{name}", str(value))])

    return make
