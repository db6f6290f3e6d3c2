"""A tiny task, and tiny classifiers for it."""

import random

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForSequenceClassification

_WORDS = ["good", "bad", "a", "row", "of", "words", "and", "more"]
_SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "initializer_range": 0.6}
PLANS = {  # of ours
    "convbert": "3*(mixed ffn)",
    "lvbert": "dynamic_conv ffn attention ffn",
}


@pytest.fixture(autouse=True)
def one_thread():
    """Bitwise equal runs need one number of threads; and tests share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def task_files(tmp_path_factory):
    """Flags of a task of two labels: 40 rows to train on, 24 to score on."""
    folder = tmp_path_factory.mktemp("task")
    generator = random.Random(0)
    for name, count in (("train", 40), ("dev", 24)):
        rows = [("sentence", "label")]
        for number in range(count):
            label = ("no", "yes")[number % 2]
            words = generator.choices(_WORDS[2:], k=generator.randint(2, 6)) + [_WORDS[number % 2]]
            generator.shuffle(words)
            rows.append((" ".join(words), label))
        (folder / f"{name}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return ["--train_file", str(folder / "train.tsv"), "--validation_file", str(folder / "dev.tsv")]


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """The folder of a classifier of random weights: "bert" is Hugging Face's with three blocks, others are ours."""
    made = {}

    def make(kind="bert"):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            vocabulary = {word: number for number, word in enumerate([*SPECIAL_TOKENS, *_WORDS])}
            tokenizer_from_vocabulary(vocabulary).save_pretrained(folder)
            labels = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
            torch.manual_seed(0)
            if kind == "bert":
                config = BertConfig(num_hidden_layers=3, vocab_size=len(vocabulary), **_SIZES, **labels)
                BertForSequenceClassification(config).save_pretrained(folder)
            else:
                config = EncoderConfig(plan=PLANS[kind], vocab_size=len(vocabulary), **_SIZES, **labels)
                EncoderForSequenceClassification(config).save_pretrained(folder)
            made[kind] = str(folder)
        return made[kind]

    return make


@pytest.fixture
def flags(classifier, task_files, tmp_path):
    """Makes the flags of an experiment of a fraction of a second in a folder of the test's."""

    def make(kind="bert", folder="out"):
        settings = ["--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none", "--max_steps", "2"]
        settings += ["--per_device_train_batch_size", "4", "--max_seq_length", "16"]
        settings += ["--output_dir", str(tmp_path / folder)]
        return ["--model_name_or_path", classifier(kind), *task_files, *settings]

    return make
