"""Training as `--torch_compile`, `--bf16` and `--gradient_checkpointing` have it, on packed batches of equal tokens."""

import json
import random

import pytest

from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.pretrain import pretrain
from bertkernels.training.training_arguments import FinetuneRunArguments

_WORDS = "the a kernel reads writes every row column of tensor matrix and then adds it to another one".split()
_BATCHES = {"tokens_per_batch": 192}
_STEPS = {"max_steps": 6, "logging_steps": 2, "save_strategy": "no", "gradient_accumulation_steps": 2}
_COMPILED = {"torch_compile": True, "torch_compile_backend": "aot_eager"}  # inductor would take a minute to compile


@pytest.fixture
def pretraining_losses(tiny_pretraining, losses, tmp_path):
    def run(name, **mode):
        arguments, settings = tiny_pretraining(tmp_path / name, **_STEPS, **_BATCHES, **mode)
        arguments.padding = "exact"
        pretrain(arguments, settings)
        return losses(tmp_path / name)

    return run


@pytest.fixture
def finetuning_losses(tiny_pretraining, losses, tmp_path):
    generator = random.Random(0)
    rows = [generator.choices(_WORDS, k=generator.randint(3, 24)) for _ in range(160)]
    lines = [f"{' '.join(words)}\t{int('kernel' in words)}" for words in rows]
    (tmp_path / "train.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    encoder = pretrain(*tiny_pretraining(tmp_path / "pair", max_steps=1, save_strategy="no")).encoder
    # Without dropout, whose draws depend on the dtype.
    config = json.loads((encoder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps(config))

    def run(name, **mode):
        settings = FinetuneRunArguments(
            output_dir=str(tmp_path / name),
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
            **_STEPS,
            **_BATCHES,
            **mode,
        )
        finetune(FinetuneArguments(model_name_or_path=str(encoder), train_file=str(tmp_path / "train.tsv")), settings)
        return losses(tmp_path / name)

    return run


@pytest.mark.parametrize(
    ("verb", "mode", "tolerance"),
    [
        ("pretraining_losses", {"gradient_checkpointing": True}, 1e-6),
        ("finetuning_losses", {"gradient_checkpointing": True}, 1e-6),
        ("finetuning_losses", _COMPILED, 1e-5),
        ("finetuning_losses", {"bf16": True}, 2e-2),
        ("pretraining_losses", {"bf16": True, "gradient_checkpointing": True, **_COMPILED}, 2e-2),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_losses_are_those_of_the_plain_run(request, verb, mode, tolerance):
    run = request.getfixturevalue(verb)
    plain, other = run("plain"), run("mode", **mode)
    assert [entry["step"] for entry in other] == [2, 4, 6]
    for expected, found in zip(plain, other, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=tolerance)
        assert found["padding_share"] == expected["padding_share"] > 0.05
