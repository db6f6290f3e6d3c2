"""Bad input ends with one sentence, before any training."""

import json

import pytest
from transformers import BertForMaskedLM, BertModel

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.training.theseus.run import theseus


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"successor_blocks": None}, "--successor_blocks is missing: how many modules, or which of the 4 blocks"),
        ({"successor_blocks": "3"}, "4 blocks can't be cut into 3 equal modules"),
        ({"successor_blocks": "0-1 3"}, "block 2 is in no module"),
        ({"successor_blocks": "0-2 2-3"}, "block 2 is in two modules"),
        ({"successor_blocks": "0-1 2"}, "the modules end before the predecessor does: 3 of its blocks left"),
        ({"successor_plan": "3*(attention ffn)"}, "has 3 blocks, which 2 modules can't share equally"),
        ({"successor_plan": "2*(attention fnn)"}, "unknown sub-layer 'fnn', did you mean 'ffn'?"),
        ({"successor_init": "last"}, "--successor_init must be first, every, fresh or a folder, not 'last'"),
        ({"replacing_rate": 0.0}, "replacing_rate must be above 0 and at most 1"),
        ({"replacing_rate": 1.01}, "replacing_rate must be above 0 and at most 1"),
        ({"steps_for_replacing": 0}, "steps_for_replacing must be at least 1, not 0: in the released code"),
        ({"successor_learning_rate": 1e-3}, "the replacing rate is below 1 to the end of the 8 steps"),
        ({"distillation_weight": 1.5}, "--distillation_weight must be from 0 to 1"),
        ({"distillation_temperature": 0.0}, "--distillation_temperature must be above 0"),
        ({"preset": "bert-small"}, "--preset does not go with compression"),
        ({"model_name_or_path": None}, "--model_name_or_path, the fine-tuned predecessor, is missing"),
        ({"model_name_or_path": "nowhere"}, "nowhere holds no model"),
        ({"max_seq_length": 64}, "--max_seq_length 64 is above the model's max_position_embeddings (32)"),
    ],
)
def test_flags(compression, tmp_path, changes, said):
    with pytest.raises(InputError) as error:
        theseus(*compression(**changes))
    assert said in str(error.value)
    assert not (tmp_path / "successor" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"torch_compile": True}, "--torch_compile does not go with compression"),
        ({"bf16_full_eval": True}, "--bf16_full_eval does not go with compression"),
    ],
)
def test_flags_of_the_run(compression, run, said):
    with pytest.raises(InputError, match=said):
        theseus(*compression(run=run))


def test_a_successor_in_its_predecessors_place(compression, predecessor):
    with pytest.raises(InputError, match="is the predecessor's own folder"):
        theseus(*compression("predecessor", run={"overwrite_output_dir": True}))


@pytest.mark.parametrize("model_class", [BertModel, BertForMaskedLM])
def test_a_predecessor_without_a_head(compression, bert, model_class):
    folder = bert("bare", model_class)
    with pytest.raises(InputError, match="bare was never fine-tuned on files: it holds a .*; fine-tune it first"):
        theseus(*compression(model_name_or_path=folder))


def test_a_pretrained_model_of_ours(compression, predecessor):
    folder = predecessor()
    config = EncoderConfig.from_pretrained(folder)
    EncoderForMaskedLM(config).save_pretrained(folder)
    with pytest.raises(InputError, match="was never fine-tuned on files: it holds a EncoderForMaskedLM"):
        theseus(*compression(model_name_or_path=folder))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("good", "bad"), "predicts good, bad, files asks for bad, good in this order"),
        (("bad", "good", "so-so"), "predicts 3 labels, files asks for 2"),
    ],
)
def test_a_predecessor_of_other_labels(compression, predecessor, labels, said):
    folder = predecessor(
        id2label=dict(enumerate(labels)), label2id={label: number for number, label in enumerate(labels)}
    )
    with pytest.raises(InputError, match=said):
        theseus(*compression(model_name_or_path=folder))


def test_labels_without_names_are_taken_in_their_order(compression, predecessor):
    folder = predecessor(id2label={0: "LABEL_0", 1: "LABEL_1"}, label2id={"LABEL_0": 0, "LABEL_1": 1})
    result = theseus(*compression(model_name_or_path=folder, run={"max_steps": 1}))
    config = json.loads((result.output_dir / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}


def test_a_given_successor_of_another_width(compression, predecessor):
    wide = predecessor("wide", hidden_size=64, plan="2*(attention ffn)")
    with pytest.raises(InputError, match="does not fit the predecessor: it has hidden_size 64 instead of 32"):
        theseus(*compression(successor_init=wide))


def test_regression_learned_on_another_scale(compression, predecessor, tmp_path):
    rows = ["sentence\tlabel", *(f"fast row\t{number / 4}" for number in range(8))]
    (tmp_path / "numbers.tsv").write_text("\n".join(rows) + "\n")
    folder = predecessor(id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0}, problem_type="regression", label_scale=5.0)
    arguments, run = compression(model_name_or_path=folder, task_type="regression")
    arguments.train_file, arguments.validation_file = str(tmp_path / "numbers.tsv"), None
    with pytest.raises(InputError, match="learned labels divided by 5: give --label_scale 5, not 1"):
        theseus(arguments, run)


def test_the_command_line_says_it_and_ends_with_2(predecessor, files, tmp_path, capsys):
    flags = ["--train_file", files["train_file"], "--model_name_or_path", predecessor(), "--use_cpu"]
    flags += ["--output_dir", str(tmp_path / "out"), "--replacing_rate", "0.5", "--successor_blocks", "0-1 3"]
    assert main(["theseus", *flags]) == 2
    sentence, text, caret = capsys.readouterr().err.splitlines()[-3:]
    assert sentence.endswith("block 2 is in no module: a group must begin with 2 (character 5)")
    assert (text, caret) == ("  0-1 3", "      ^")
