"""What the pre-training objectives train, log, evaluate and save."""

import json
import random
from dataclasses import replace

import datasets
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.next_sentence import EncoderForMaskedLMAndNextSentence
from bertkernels.training import pretraining_trainer
from bertkernels.training.electra_trainer import ElectraTrainer
from bertkernels.training.masking_collator import MaskingCollator
from bertkernels.training.pretrain import pretrain
from bertkernels.training.pretraining_trainer import PretrainingSet
from tests import forked

PAIRS = {"objective": "masked_lm_nsp", "generator_size": None, "packing": "bert_pairs", "masking": "bert"}


def _logged(result):
    return [entry for entry in result.log if "loss" in entry]


@pytest.mark.parametrize("preset", ["convbert-small", "bert-small"])
def test_masked_lm_and_next_sentence(tiny_pretraining, tmp_path, preset):
    settings = {"max_steps": 60, "learning_rate": 3e-3, "save_strategy": "no"}
    arguments, run = tiny_pretraining(tmp_path / "run", **settings)
    plan = "2*(mixed ffn)" if preset == "convbert-small" else "attention ffn"
    arguments = replace(arguments, **PAIRS, preset=preset, plan=plan, validation_share=0.2, whole_word_masking=True)
    result = pretrain(arguments, run)
    log = _logged(result)
    assert log[-1]["loss"] < log[0]["loss"] - 0.3
    for entry in log:
        assert entry["loss"] == pytest.approx(entry["masked_lm_loss"] + entry["next_sentence_loss"], rel=0.05)
        assert 0 <= entry["next_sentence_accuracy"] <= 1 and 0 <= entry["masked_lm_accuracy"] <= 1
    evaluated = json.loads((tmp_path / "run" / "eval_results.json").read_text())
    both = evaluated["eval_masked_lm_loss"] + evaluated["eval_next_sentence_loss"]
    assert evaluated["eval_loss"] == pytest.approx(both, rel=1e-9)
    assert 0 < evaluated["eval_next_sentence_accuracy"] < 1

    assert result.encoder == result.output_dir
    model = EncoderForMaskedLMAndNextSentence.from_pretrained(result.encoder)
    assert model.num_parameters() == result.parameters and model.config.pooler
    tuned = AutoModelForSequenceClassification.from_pretrained(result.encoder, num_labels=2)
    assert torch.equal(tuned.model.pooler.weight, model.model.pooler.weight)


@pytest.mark.parametrize("objective", ["electra", "masked_lm"])
def test_other_objectives_train_on_pairs_too(tiny_pretraining, tmp_path, objective):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=2, save_strategy="no")
    size = 0.5 if objective == "electra" else None
    pretrain(replace(arguments, objective=objective, generator_size=size, packing="bert_pairs"), run)


@pytest.mark.parametrize(
    "changes",
    [
        {"untied_generator": False, "generator_size": None},
        {"uniform_generator": True, "generator_size": None},
        {"generator_layers": 0.5, "disallow_correct": True, "temperature": 2.0, "mask_probability": 0.25},
        {"masking": "bert", "whole_word_masking": True},
        {"masking": "electra", "whole_word_masking": True},
    ],
)
def test_electra_options(tiny_pretraining, tmp_path, changes):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=12, logging_steps=6, save_steps=6)
    arguments = replace(arguments, validation_share=0.2, **changes)
    result = pretrain(arguments, run)
    pair = ElectraForPreTraining.from_pretrained(result.output_dir)
    assert pair.num_parameters() == result.parameters
    log = _logged(result)
    if changes.get("uniform_generator"):
        assert pair.generator is None
        assert log[0]["generator_loss"] == pytest.approx(
            torch.tensor(pair.config.discriminator.vocab_size).log().item()
        )
    elif "untied_generator" in changes:
        assert pair.generator.model is pair.discriminator.model
        assert log[-1]["generator_loss"] != log[0]["generator_loss"]
    elif "generator_layers" in changes:
        assert pair.config.generator.plan == "(mixed ffn)" and pair.config.temperature == 2.0
        assert {entry["sampled_masked_lm_accuracy"] for entry in log} == {0.0}
    # and a resume gives the same end
    again, run = tiny_pretraining(
        tmp_path / "run", max_steps=12, logging_steps=6, save_steps=6, resume_from_checkpoint=None
    )
    run.resume_from_checkpoint = str(tmp_path / "run" / "checkpoint-6")
    resumed = pretrain(arguments, run)
    assert _logged(resumed)[-1]["discriminator_loss"] == log[-1]["discriminator_loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "masked_lm", "generator_size": None, "uniform_generator": True}, "--uniform_generator is for"),
        ({"objective": "masked_lm", "generator_size": None, "temperature": 2.0}, "--temperature is for --objective el"),
        ({"untied_generator": False}, "--generator_size does not go with --untied_generator false"),
        ({"uniform_generator": True}, "--generator_size does not go with --uniform_generator"),
        ({"uniform_generator": True, "untied_generator": False}, "or --untied_generator false, not both"),
        ({"generator_layers": 1.5}, "--generator_layers must be above 0"),
        (PAIRS | {"packing": "electra"}, "--objective masked_lm_nsp needs sentence pairs: --packing bert_pairs"),
        ({"model_name_or_path": "run", "preset": None, "plan": "attention"}, "--plan does not go with --model_name_or"),
        ({"model_name_or_path": "run"}, "give either --preset or --config_file or --model_name_or_path"),
    ],
)
def test_what_does_not_go_together(tiny_pretraining, tmp_path, changes, message):
    arguments, run = tiny_pretraining(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        pretrain(replace(arguments, **changes), run)
    assert not (tmp_path / "run").exists()


# -- going on from earlier weights -------------------------------------------------------------------------------------

_NO_SHAPE = dict.fromkeys(
    ("preset", "plan", "hidden_size", "embedding_size", "num_attention_heads", "intermediate_size", "generator_size")
)


@pytest.mark.parametrize("objective", ["electra", "masked_lm", "masked_lm_nsp"])
def test_going_on_from_earlier_weights(tiny_pretraining, tmp_path, objective):
    kind = {"objective": objective, "packing": "bert_pairs"}
    kind |= {} if objective == "electra" else {"generator_size": None}
    arguments, run = tiny_pretraining(tmp_path / "first", max_steps=2, save_strategy="no")
    first = pretrain(replace(arguments, **kind), run)
    # no step changes anything at a rate of 0
    arguments, run = tiny_pretraining(tmp_path / "second", max_steps=1, save_strategy="no", learning_rate=0.0)
    arguments = replace(arguments, **_NO_SHAPE | kind, model_name_or_path=str(first.output_dir), max_seq_length=64)
    second = pretrain(replace(arguments, generator_size=None), run)
    model_class = {
        "electra": ElectraForPreTraining,
        "masked_lm": EncoderForMaskedLM,
        "masked_lm_nsp": EncoderForMaskedLMAndNextSentence,
    }[objective]
    before, after = (model_class.from_pretrained(result.output_dir).state_dict() for result in (first, second))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    vocabularies = [AutoTokenizer.from_pretrained(result.encoder).get_vocab() for result in (first, second)]
    assert vocabularies[0] == vocabularies[1]


def test_what_cannot_be_gone_on_from(tiny_pretraining, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "first", max_steps=1, save_strategy="no")
    first = pretrain(arguments, run)
    further = replace(arguments, **_NO_SHAPE, model_name_or_path=str(first.output_dir))

    def go_on(**changes):
        return pretrain(replace(further, **changes), tiny_pretraining(tmp_path / "second", max_steps=1)[1])

    with pytest.raises(InputError, match="is of the kind bertkernels; --objective electra goes on from a generator"):
        go_on(model_name_or_path=str(first.encoder))
    with pytest.raises(InputError, match="is of the kind bertkernels-electra; --objective masked_lm goes on from an"):
        go_on(objective="masked_lm")
    with pytest.raises(InputError, match="lacks .* weights that --objective masked_lm needs, such as prediction"):
        go_on(objective="masked_lm", model_name_or_path=str(first.encoder))
    with pytest.raises(InputError, match="--max_seq_length 600 is above the model's max_position_embeddings"):
        go_on(max_seq_length=600)
    other = tmp_path / "vocab.txt"
    rows = ElectraForPreTraining.from_pretrained(first.output_dir).config.discriminator.vocab_size
    words = [f"word{number}" for number in range(rows - 5)]
    other.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    with pytest.raises(InputError, match="was trained with another vocabulary"):
        go_on(vocab_file=str(other))
    other.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]))
    with pytest.raises(InputError, match=f"has {rows} word embeddings, the tokenizer 6"):
        go_on(vocab_file=str(other))
    with pytest.raises(InputError, match=r"--model_name_or_path .*absent"):
        go_on(model_name_or_path=str(tmp_path / "absent"), tokenizer_name=str(first.encoder))
    assert not (tmp_path / "second").exists()


# -- evaluation --------------------------------------------------------------------------------------------------------


@pytest.fixture
def electra_trainer(tiny_pretraining, tmp_path):
    """A trainer over 13 held-out examples, its model and its batches of one example each."""
    generator = random.Random(0)
    lengths = [generator.randint(8, 32) for _ in range(13)]
    ids = [[2, *generator.choices(range(5, 50), k=length - 2), 3] for length in lengths]
    examples = PretrainingSet(datasets.Dataset.from_dict({"input_ids": ids, "first_length": lengths}))
    torch.manual_seed(0)
    discriminator = EncoderConfig(
        vocab_size=50, hidden_size=32, num_attention_heads=2, intermediate_size=64, plan="ffn"
    )
    model = ElectraForPreTraining(ElectraConfig(discriminator=discriminator))
    collator = MaskingCollator(pad_id=0, cls_id=2, sep_id=3, mask_id=4, max_length=32, seed=0)
    _, run = tiny_pretraining(tmp_path / "run", per_device_eval_batch_size=4)
    trainer = ElectraTrainer(model=model, args=run, eval_dataset=examples, data_collator=collator)
    batches = [collator(examples.__getitems__([(0, index)])) for index in range(13)]
    return trainer, model, batches


def test_evaluation_is_over_all_real_tokens(electra_trainer):
    """Loss and accuracy of the masked language model written out again, example by example: 13 in batches of 4."""
    trainer, model, batches = electra_trainer
    found = trainer.evaluate()
    model.eval()
    losses, right, predictions, tokens = 0.0, 0, 0, 0
    for batch in batches:
        logits = model.generator(batch["input_ids"]).logits[0, batch["masked_lm_positions"][0]]
        counted = batch["masked_lm_weights"][0] > 0
        true = batch["masked_lm_ids"][0]
        losses += functional.cross_entropy(logits[counted], true[counted], reduction="sum").item()
        right += (logits.argmax(-1) == true)[counted].sum().item()
        predictions += counted.sum().item()
        tokens += batch["attention_mask"].sum().item()
    assert found["eval_generator_loss"] == pytest.approx(losses / predictions, rel=1e-5)
    assert found["eval_masked_lm_accuracy"] == pytest.approx(right / predictions, rel=1e-9)
    weighted = found["eval_generator_loss"] + 50 * found["eval_discriminator_loss"]
    assert found["eval_loss"] == pytest.approx(weighted, rel=1e-9)
    assert trainer.evaluate()["eval_loss"] == found["eval_loss"]


def test_what_fills_up_the_last_batches_of_several_processes_changes_nothing(electra_trainer, monkeypatch):
    trainer, _, _ = electra_trainer
    sizes = []

    def in_order(size, multiple):
        sizes.append((size, multiple))
        return original(size, 20)

    original = pretraining_trainer._InOrder
    found = trainer.evaluate()
    monkeypatch.setattr(pretraining_trainer, "_InOrder", in_order)
    filled = trainer.evaluate()
    assert sizes == [(13, 1)] and list(original(13, 20))[12:] == [(0, 12), *[(0, -1)] * 7]
    for name in ("eval_generator_loss", "eval_masked_lm_accuracy"):
        assert filled[name] == pytest.approx(found[name], rel=1e-6)


_RUN = """
import json, sys
import torch
from bertkernels.training.pretrain import PretrainArguments, pretrain
from bertkernels.training.training_arguments import PretrainRunArguments

torch.set_num_threads(1)
arguments, run = json.loads(sys.argv[1])
pretrain(PretrainArguments(**arguments), PretrainRunArguments(**run))
"""


def test_two_processes_evaluate_what_one_does(tiny_pretraining, tmp_path):
    """The model stays as it began. What is held out doesn't fill the last batch of each."""
    settings = {"max_steps": 1, "learning_rate": 0.0, "save_strategy": "no", "per_device_eval_batch_size": 16}
    arguments, run = tiny_pretraining(tmp_path / "one", **settings)
    arguments = replace(arguments, **PAIRS, plan="ffn", validation_share=0.1)
    pretrain(arguments, run)
    two = {"output_dir": str(tmp_path / "two"), "use_cpu": True, "disable_tqdm": True, "report_to": "none", **settings}
    for process in forked.run_two(_RUN, [json.dumps([vars(arguments), two | {"ddp_backend": "gloo"}])]):
        assert process.returncode == 0, process.stderr[-3000:]
    alone, together = (json.loads((tmp_path / name / "eval_results.json").read_text()) for name in ("one", "two"))
    names = [name for name in alone if name.endswith(("loss", "accuracy"))]
    assert len(names) == 5
    for name in names:
        assert together[name] == pytest.approx(alone[name], rel=1e-6), name
