"""Hugging Face's ConvBERT, BERT and ELECTRA to ours and back."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ConvBertConfig,
    ConvBertForMaskedLM,
    ConvBertForMultipleChoice,
    ConvBertForQuestionAnswering,
    ConvBertForSequenceClassification,
    ConvBertForTokenClassification,
    ConvBertModel,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForMultipleChoice,
    ElectraForPreTraining,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    ElectraModel,
)

from bertkernels.errors import InputError
from bertkernels.models import heads
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert import from_huggingface, to_huggingface
from bertkernels.models.convert.from_huggingface import convert_huggingface
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.multiple_choice import EncoderForMultipleChoice
from bertkernels.models.next_sentence import EncoderForMaskedLMAndNextSentence
from bertkernels.models.question_answering import EncoderForQuestionAnswering
from bertkernels.models.token_classification import EncoderForTokenClassification

TOLERANCE = 1e-5
TINY = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
    "pad_token_id": 0,
}
CONVBERT = TINY | {"embedding_size": 16, "conv_kernel_size": 5, "bos_token_id": None, "eos_token_id": None}
ELECTRA = TINY | {"embedding_size": 16}
PUBLISHED = {
    "small": {"hidden_size": 256, "embedding_size": 128, "num_attention_heads": 4, "intermediate_size": 1024},
    "medium-small": {
        "hidden_size": 384,
        "embedding_size": 128,
        "num_attention_heads": 8,
        "intermediate_size": 1536,
        "num_groups": 2,
    },
    "base": {"hidden_size": 768, "embedding_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}


def randomised(model):
    """No bias 0, no LayerNorm weight 1, no padding row 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def batch(vocab_size=60, tokens=12):
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(2, tokens, dtype=torch.long)
    mask[1, tokens - 4 :] = 0
    return {
        "input_ids": torch.randint(1, vocab_size, (2, tokens), generator=generator) * mask,
        "attention_mask": mask,
        "token_type_ids": torch.randint(0, 2, (2, tokens), generator=generator),
    }


def assert_same_outputs(theirs, ours, inputs, field):
    with torch.no_grad():
        wanted, found = getattr(theirs(**inputs), field), getattr(ours(**inputs), field)
    if wanted.shape[:2] == inputs["input_ids"].shape:
        real = inputs["attention_mask"].bool()
        wanted, found = wanted[real], found[real]
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max().item() <= TOLERANCE


def assert_same_state(found, wanted):
    found, wanted = found.state_dict(), wanted.state_dict()
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert torch.equal(found[name], weight), name


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_convbert_both_ways(size, tmp_path):
    config = ConvBertConfig(**PUBLISHED[size], pad_token_id=0, bos_token_id=None, eos_token_id=None)
    theirs = randomised(ConvBertModel(config))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_huggingface(tmp_path / "theirs")
    inputs = batch(config.vocab_size, 24)
    assert ours.config.padding == "reference"
    assert_same_outputs(theirs, ours, inputs, "last_hidden_state")

    to_huggingface(ours, tmp_path / "back")
    back = AutoModel.from_pretrained(tmp_path / "back")
    assert_same_state(back, theirs)
    assert_same_outputs(theirs, back, inputs, "last_hidden_state")


MODELS = {
    "convbert": (ConvBertModel, ConvBertConfig(**CONVBERT), EncoderModel, "last_hidden_state"),
    "convbert-groups": (ConvBertModel, ConvBertConfig(**CONVBERT, num_groups=2), EncoderModel, "last_hidden_state"),
    "convbert-mlm": (ConvBertForMaskedLM, ConvBertConfig(**CONVBERT), heads.EncoderForMaskedLM, "logits"),
    "convbert-classifier": (
        ConvBertForSequenceClassification,
        ConvBertConfig(**CONVBERT, hidden_act="relu", num_labels=3),
        heads.EncoderForSequenceClassification,
        "logits",
    ),
    "electra": (ElectraModel, ElectraConfig(**ELECTRA), EncoderModel, "last_hidden_state"),
    "electra-mlm": (ElectraForMaskedLM, ElectraConfig(**ELECTRA), heads.EncoderForMaskedLM, "logits"),
    "electra-rtd": (
        ElectraForPreTraining,
        ElectraConfig(**ELECTRA, hidden_act="relu"),
        heads.EncoderForReplacedTokenDetection,
        "logits",
    ),
    "electra-classifier": (
        ElectraForSequenceClassification,
        ElectraConfig(**ELECTRA, id2label={0: "no", 1: "yes", 2: "perhaps"}),
        heads.EncoderForSequenceClassification,
        "logits",
    ),
    "bert": (BertModel, BertConfig(**TINY, hidden_act="gelu_new"), EncoderModel, "pooler_output"),
    "bert-mlm": (BertForMaskedLM, BertConfig(**TINY, hidden_act="relu"), heads.EncoderForMaskedLM, "logits"),
    "bert-classifier": (
        BertForSequenceClassification,
        BertConfig(**TINY, num_labels=1, problem_type="regression", classifier_dropout=0.3),
        heads.EncoderForSequenceClassification,
        "logits",
    ),
    "convbert-tagger": (
        ConvBertForTokenClassification,
        ConvBertConfig(**CONVBERT, id2label={0: "O", 1: "B-x", 2: "I-x"}),
        EncoderForTokenClassification,
        "logits",
    ),
    "electra-tagger": (
        ElectraForTokenClassification,
        ElectraConfig(**ELECTRA, classifier_dropout=0.0, num_labels=5),
        EncoderForTokenClassification,
        "logits",
    ),
    "bert-tagger": (
        BertForTokenClassification,
        BertConfig(**TINY, num_labels=5),
        EncoderForTokenClassification,
        "logits",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_heads_both_ways(name, tmp_path):
    their_class, config, our_class, field = MODELS[name]
    theirs = randomised(their_class(config))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_huggingface(tmp_path / "theirs")
    assert type(ours) is our_class
    assert ours.config.padding == ("reference" if config.model_type == "convbert" else "exact")
    assert_same_outputs(theirs, ours, batch(), field)

    # what our folder holds is the same model
    ours.save_pretrained(tmp_path / "ours")
    assert_same_outputs(theirs, our_class.from_pretrained(tmp_path / "ours"), batch(), field)

    to_huggingface(ours, tmp_path / "back", to=config.model_type)
    back = their_class.from_pretrained(tmp_path / "back")
    assert_same_state(back, theirs)
    assert_same_outputs(theirs, back, batch(), field)
    for setting in (
        "hidden_act",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "layer_norm_eps",
        "initializer_range",
        "classifier_dropout",
        "pad_token_id",
        "id2label",
        "problem_type",
        "num_attention_heads",
        "num_hidden_layers",
    ):
        assert getattr(back.config, setting) == getattr(config, setting), setting


def test_settings_arrive(tmp_path):
    config = ElectraConfig(
        **ELECTRA, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3, layer_norm_eps=1e-6, initializer_range=0.1
    )
    ElectraModel(config).save_pretrained(tmp_path)
    found = from_huggingface(tmp_path).config
    assert (found.hidden_dropout_prob, found.attention_probs_dropout_prob) == (0.2, 0.3)
    assert (found.layer_norm_eps, found.initializer_range, found.embedding_size) == (1e-6, 0.1, 16)


@pytest.mark.parametrize("heads_and_ratio", [(4, 1), (4, 4), (2, 4), (3, 2), (8, 4)])
def test_their_head_size_for_other_ratios(heads_and_ratio, tmp_path):
    """Theirs is half of hidden_size per reduced head, not hidden_size per configured head as in the released code."""
    number, ratio = heads_and_ratio
    theirs = randomised(
        ConvBertModel(ConvBertConfig(**CONVBERT | {"num_attention_heads": number, "head_ratio": ratio}))
    )
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_huggingface(tmp_path / "theirs")
    assert_same_outputs(theirs, ours, batch(), "last_hidden_state")
    to_huggingface(ours, tmp_path / "back")
    assert_same_state(AutoModel.from_pretrained(tmp_path / "back"), theirs)


def test_heads_that_theirs_cannot_run_are_refused(tmp_path):
    config = ConvBertConfig(**CONVBERT | {"hidden_size": 36, "num_attention_heads": 8})
    ConvBertModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="4 attention heads and 4 convolution heads do not share hidden_size 36"):
        from_huggingface(tmp_path)


def test_output_at_padding_is_theirs(tmp_path):
    theirs = randomised(ConvBertModel(ConvBertConfig(**CONVBERT)))
    theirs.save_pretrained(tmp_path)
    inputs = batch()
    with torch.no_grad():
        found, wanted = from_huggingface(tmp_path)(**inputs), theirs(**inputs)
    assert (found.last_hidden_state - wanted.last_hidden_state).abs().max() <= TOLERANCE


def test_shards_pytorch_files_and_half_precision(tmp_path):
    theirs = randomised(ConvBertModel(ConvBertConfig(**CONVBERT)))
    theirs.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 1
    assert_same_outputs(theirs, from_huggingface(tmp_path / "sharded"), batch(), "last_hidden_state")

    theirs.config.save_pretrained(tmp_path / "pickled")
    torch.save(theirs.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    assert_same_outputs(theirs, from_huggingface(tmp_path / "pickled"), batch(), "last_hidden_state")

    theirs.bfloat16().save_pretrained(tmp_path / "half")
    ours = from_huggingface(tmp_path / "half")
    assert ours.dtype == torch.bfloat16
    to_huggingface(ours, tmp_path / "back")
    assert_same_state(AutoModel.from_pretrained(tmp_path / "back"), theirs)


def test_old_names_and_buffers(tmp_path):
    """Files from before 2020: gamma and beta in LayerNorms, position numbers stored, output embeddings stored."""
    theirs = randomised(BertForMaskedLM(BertConfig(**TINY)))
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
        for name, weight in weights.items()
    }
    renamed["bert.embeddings.position_ids"] = torch.arange(20)[None]
    renamed["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"].clone()
    renamed["bert.pooler.dense.weight"] = torch.zeros(32, 32)
    renamed["bert.pooler.dense.bias"] = torch.zeros(32)
    save_file(renamed, tmp_path / "model.safetensors")
    conversion = convert_huggingface(tmp_path)
    assert_same_outputs(theirs, conversion.model, batch(), "logits")
    assert conversion.notes == ["left out: pooler (pooler.dense.bias, pooler.dense.weight)"]

    renamed["cls.predictions.decoder.weight"] += 1
    save_file(renamed, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="decoder.weight differs from embeddings.word_embeddings.weight"):
        from_huggingface(tmp_path)


def test_parts(tmp_path):
    theirs = randomised(BertForPreTraining(BertConfig(**TINY)))
    theirs.save_pretrained(tmp_path)
    conversion = convert_huggingface(tmp_path)
    assert type(conversion.model) is heads.EncoderForMaskedLM
    left_out = {note.split(" (")[0] for note in conversion.notes}
    assert left_out == {"left out: pooler", "left out: next-sentence head"}
    with torch.no_grad():
        wanted, found = theirs(**batch()).prediction_logits, conversion.model(**batch()).logits
    real = batch()["attention_mask"].bool()
    assert (found - wanted)[real].abs().max() <= TOLERANCE

    encoder = from_huggingface(tmp_path, part="encoder")
    assert_same_outputs(theirs.bert, encoder, batch(), "pooler_output")


CHOICES = {
    "bert": (BertForMultipleChoice, BertConfig(**TINY, classifier_dropout=0.3)),
    "electra": (ElectraForMultipleChoice, ElectraConfig(**ELECTRA, summary_activation="tanh")),
}


@pytest.mark.parametrize("name", CHOICES)
def test_multiple_choice_both_ways(name, tmp_path):
    their_class, config = CHOICES[name]
    theirs = randomised(their_class(config))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_huggingface(tmp_path / "theirs")
    assert type(ours) is EncoderForMultipleChoice
    inputs = {key: torch.stack([value, value.flip(0), value[[1, 1]]], 1) for key, value in batch().items()}
    assert_same_outputs(theirs, ours, inputs, "logits")
    to_huggingface(ours, tmp_path / "back")
    back = their_class.from_pretrained(tmp_path / "back")
    assert_same_state(back, theirs)
    assert_same_outputs(theirs, back, inputs, "logits")


def test_multiple_choice_that_ours_do_not_have(tmp_path):
    randomised(ConvBertForMultipleChoice(ConvBertConfig(**CONVBERT))).save_pretrained(tmp_path / "convbert")
    with pytest.raises(InputError, match="reads a choice off its last position"):
        from_huggingface(tmp_path / "convbert")
    conversion = convert_huggingface(tmp_path / "convbert", part="encoder")
    assert conversion.notes == ["left out: classification head (classifier.bias, classifier.weight)"]
    config = ElectraConfig(**ELECTRA, summary_type="mean")
    randomised(ElectraForMultipleChoice(config)).save_pretrained(tmp_path / "electra")
    with pytest.raises(InputError, match="only summary_type 'first' with summary_use_proj"):
        from_huggingface(tmp_path / "electra")
    ours = EncoderForMultipleChoice(EncoderConfig(plan="(attention ffn)", pooler=False, **OURS))
    with pytest.raises(InputError, match="multiple-choice head has classifier_hidden_act a name, not None"):
        to_huggingface(ours, tmp_path / "back")


def test_a_head_without_counterpart(tmp_path):
    theirs = randomised(BertForNextSentencePrediction(BertConfig(**TINY)))
    theirs.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="BertForNextSentencePrediction, whose head has no counterpart"):
        from_huggingface(tmp_path)
    conversion = convert_huggingface(tmp_path, part="encoder")
    assert conversion.notes == ["left out: next-sentence head (cls.seq_relationship.bias, cls.seq_relationship.weight)"]
    assert_same_outputs(theirs.bert, conversion.model, batch(), "last_hidden_state")


QUESTIONS = {
    "bert": (BertForQuestionAnswering, BertConfig(**TINY)),
    "electra": (ElectraForQuestionAnswering, ElectraConfig(**ELECTRA)),
    "convbert": (ConvBertForQuestionAnswering, ConvBertConfig(**CONVBERT)),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_question_answering_both_ways(name, tmp_path):
    their_class, config = QUESTIONS[name]
    theirs = randomised(their_class(config))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_huggingface(tmp_path / "theirs")
    assert type(ours) is EncoderForQuestionAnswering
    inputs = {key: value for key, value in batch().items() if key != "token_type_ids"}  # answers may be anywhere
    for field in ("start_logits", "end_logits"):
        assert_same_outputs(theirs, ours, inputs, field)
    to_huggingface(ours, tmp_path / "back", name)
    back = their_class.from_pretrained(tmp_path / "back")
    assert_same_state(back, theirs)
    encoder = convert_huggingface(tmp_path / "theirs", part="encoder")
    assert encoder.notes == ["left out: question-answering head (qa_outputs.bias, qa_outputs.weight)"]


@pytest.mark.parametrize("options", [{"qa_head": "joint"}, {"answerable_classifier": True}], ids=str)
def test_question_answering_that_theirs_do_not_have(options, tmp_path):
    ours = EncoderForQuestionAnswering(EncoderConfig(plan="(attention ffn)", pooler=False, **options, **OURS))
    with pytest.raises(InputError, match="head is qa_head plain without an answerable_classifier"):
        to_huggingface(ours, tmp_path)


@pytest.mark.parametrize("ours", [EncoderForQuestionAnswering, EncoderForMaskedLMAndNextSentence])
def test_any_model_of_ours_is_read_whole_or_without_its_head(ours, tmp_path):
    model = ours(EncoderConfig(plan="(attention ffn)", **OURS))
    model.save_pretrained(tmp_path)
    assert_same_state(load_ours(tmp_path), model)
    assert_same_state(load_ours(tmp_path, "encoder"), model.model)


def test_misfitting_weights_are_all_named(tmp_path):
    ConvBertModel(ConvBertConfig(**CONVBERT)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.0.attention.self.query.bias"]
    del weights["embeddings_project.bias"]
    weights["encoder.layer.1.output.dense.weight"] = torch.zeros(32, 47)
    weights["encoder.layer.7.output.dense.bias"] = torch.zeros(32)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(InputError) as error:
        from_huggingface(tmp_path)
    message = str(error.value)
    assert "2 missing (embeddings_project.bias, encoder.layer.0.attention.self.query.bias)" in message
    assert "1 unexpected (encoder.layer.7.output.dense.bias)" in message
    assert "1 mis-shaped (encoder.layer.1.output.dense.weight [32, 47] instead of [32, 48])" in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "model.safetensors cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2"}'), "model_type 'gpt2'"),
        (lambda folder: change_config(folder, hidden_act="silu"), "hidden_act must be one of"),
        (lambda folder: change_config(folder, hidden_size="wide"), "hidden_size"),
        (lambda folder: change_config(folder, is_decoder=True), "only encoders"),
        (lambda folder: change_config(folder, conv_kernel_size=4), "even conv_kernel_size 4"),
    ],
)
def test_damaged_folders(damage, message, tmp_path):
    ConvBertModel(ConvBertConfig(**CONVBERT)).save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        from_huggingface(tmp_path)


def change_config(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


def test_pickles_are_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    ConvBertConfig(**CONVBERT).save_pretrained(tmp_path)
    torch.save({"weight": Bomb()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin cannot be read"):
        from_huggingface(tmp_path)
    assert not (tmp_path / "executed").exists()


OURS = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize(
    ("plan", "settings", "to", "message"),
    [
        ("2*(mixed ffn)", {"head_ratio": 4}, "convbert", "share hidden_size 32, but here they are 8 wide, 16 together"),
        ("2*(mixed ffn)", {"head_ratio": 1}, "huggingface", "8 wide, 64 together"),
        ("2*(mixed ffn)", {"conv_kernel_size": 4}, "convbert", "odd number of taps, not 4"),
        ("2*(mixed ffn)", {}, "bert", r"its layers are \(attention ffn\), but the plan is"),
        ("(mixed ffn) (attention ffn)", {}, "huggingface", r"its layers are \(mixed ffn\)"),
        ("(attention ffn) (attention ffn[width=40])", {}, "bert", "its layers are all alike"),
        ("(attention ffn[groups=2])", {"pooler": True}, "bert", "feed-forward has no groups"),
        ("(attention[heads=2] ffn)", {}, "electra", "heads share hidden_size 32, but here they have 16 channels"),
        ("(attention ffn)", {"embedding_size": 16, "pooler": True}, "bert", "as wide as its hidden states, 32, not 16"),
        ("(attention ffn)", {}, "bert", "it needs a pooler"),
        ("(attention ffn)", {"pooler": True}, "electra", "it has no pooler"),
        ("(attention ffn)", {}, "gpt2", "to must be one of huggingface, bert, electra, convbert"),
    ],
)
def test_what_theirs_cannot_represent(plan, settings, to, message, tmp_path):
    model = EncoderModel(EncoderConfig(plan=plan, **OURS | settings))
    with pytest.raises(InputError, match=message):
        to_huggingface(model, tmp_path / "theirs", to=to)
    assert not (tmp_path / "theirs").exists()


def test_heads_that_theirs_do_not_have(tmp_path):
    mixed = EncoderConfig(plan="(mixed ffn)", **OURS)
    with pytest.raises(InputError, match="no class with the head of a EncoderForReplacedTokenDetection"):
        to_huggingface(heads.EncoderForReplacedTokenDetection(mixed), tmp_path / "theirs")
    with pytest.raises(InputError, match="classifier_hidden_act gelu, not None"):
        to_huggingface(heads.EncoderForSequenceClassification(mixed), tmp_path / "theirs")


def test_a_folder_with_files_is_kept(tmp_path):
    model = EncoderModel(EncoderConfig(plan="(mixed ffn)", **OURS))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        to_huggingface(model, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    to_huggingface(model, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert_same_state(from_huggingface(tmp_path), model)
