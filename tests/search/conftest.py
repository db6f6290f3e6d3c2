"""A tiny supernet of random weights and held-out text: what a search needs."""

import random

import pytest
import torch

from bertkernels.data.prepare_text import PrepareArguments, prepare_text
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.search.search_arguments import SearchArguments

KINDS = ["attention", "ffn", "dynamic_conv"]
_WORDS = "the a kernel reads writes every row column of tensor matrix and then adds it to another one while".split()


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory):
    """Prepared examples of made-up sentences, 32 tokens long, a fifth of them held out."""
    folder = tmp_path_factory.mktemp("text")
    generator = random.Random(0)
    lines = []
    for _ in range(40):
        lines += [" ".join(generator.choices(_WORDS, k=generator.randint(4, 14))) for _ in range(6)] + [""]
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    prepare_text(
        PrepareArguments(
            train_file=[str(folder / "text.txt")],
            vocab_size=200,
            max_seq_length=32,
            validation_share=0.2,
            output_dir=str(folder / "prepared"),
            num_workers=1,
        )
    )
    return str(folder / "prepared")


@pytest.fixture(scope="session")
def supernet_config():
    return EncoderConfig(
        vocab_size=200,
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        plan="3*(attention ffn)",
        supernet_kinds=KINDS,
        initializer_range=0.3,
    )


@pytest.fixture(scope="session")
def supernet(tmp_path_factory, supernet_config):
    """The folder of a masked language model's supernet with six slots."""
    folder = tmp_path_factory.mktemp("supernet")
    torch.manual_seed(0)
    EncoderForMaskedLM(supernet_config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def flags(supernet, prepared_dir, tmp_path):
    """Makes the arguments of a search of a few seconds."""

    def make(**changes):
        settings = {
            "supernet": supernet,
            "prepared_dir": prepared_dir,
            "output_dir": str(tmp_path / "search"),
            "fitness_examples": 16,
            "evaluations": 12,
            "population": 4,
            "parents": 2,
            "random_orders": 2,
            "use_cpu": True,
            "disable_tqdm": True,
        }
        return SearchArguments(**settings | changes)

    return make
