import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForTokenClassification

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.token_classification import EncoderForTokenClassification

LENGTHS = (8, 5, 2)


def build(**fields):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    rest = {"initializer_range": 0.2, "plan": "mixed ffn"}
    if "id2label" not in fields:
        rest["num_labels"] = 5
    return EncoderForTokenClassification(EncoderConfig(**{**sizes, **rest, **fields})).eval()


def batch():
    """ids, mask, labels [3, 8]: some real tokens have no label, and padding has one."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (3, 8), generator=generator)
    mask = (torch.arange(8) < torch.tensor(LENGTHS)[:, None]).long()
    labels = torch.randint(0, 5, (3, 8), generator=generator)
    labels[:, 1] = -100
    return ids, mask, labels


def test_every_token_gets_the_classifier_s_scores():
    model = build()
    ids, mask, _ = batch()
    states = model.model(ids, mask).last_hidden_state
    real = mask.bool()
    found = model(ids, mask).logits
    assert found.shape == (3, 8, 5) and model(ids, mask).loss is None
    torch.testing.assert_close(found[real], model.classifier.output(states[real]))
    assert (found[~real] == 0).all()


@pytest.mark.parametrize("padding", ["exact", "reference"])
def test_padded_batches_equal_single_sequences(padding):
    model = build(padding=padding, plan="attention ffn" if padding == "reference" else "mixed ffn")
    ids, mask, _ = batch()
    together = model(ids, mask).logits
    for row, length in enumerate(LENGTHS):
        alone = model(ids[row : row + 1, :length]).logits[0]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=1e-5)


def test_loss_is_over_labelled_tokens():
    model = build()
    ids, mask, labels = batch()
    out = model(ids, mask, labels=labels)
    counted = mask.bool() & (labels != -100)
    torch.testing.assert_close(out.loss, functional.cross_entropy(out.logits[counted], labels[counted]))
    assert model(ids, mask, labels=torch.full_like(labels, -100)).loss == 0
    with pytest.raises(ValueError, match=r"labels must be \[B, T\] = \[3, 8\], got \[3, 7\]"):
        model(ids, mask, labels=labels[:, 1:])


def test_dropout_of_the_head():
    assert build().classifier.dropout.p == 0.1
    assert build(hidden_dropout_prob=0.3).classifier.dropout.p == 0.3
    assert build(classifier_dropout=0.0).classifier.dropout.p == 0.0


def test_every_parameter_gets_a_gradient():
    model = build(pooler=True).train()
    ids, mask, labels = batch()
    model(ids, mask, labels=labels).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_it_round_trips(tmp_path):
    model = build(id2label={0: "O", 1: "B-x", 2: "I-x"})
    model.save_pretrained(tmp_path)
    ids, mask, _ = batch()
    for loaded in (AutoModelForTokenClassification.from_pretrained(tmp_path).eval(), load_ours(tmp_path)):
        assert type(loaded) is EncoderForTokenClassification
        assert loaded.config.id2label == {0: "O", 1: "B-x", 2: "I-x"}
        assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)


def test_from_a_pre_trained_encoder(tmp_path):
    encoder = EncoderModel(build().config)
    encoder.save_pretrained(tmp_path)
    model, report = AutoModelForTokenClassification.from_pretrained(tmp_path, num_labels=7, output_loading_info=True)
    assert set(report["missing_keys"]) == {"classifier.output.weight", "classifier.output.bias"}
    assert model.classifier.output.weight.shape == (7, 32)
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.model.state_dict()[name], value), name


def test_tuples_start_with_the_loss():
    model = build()
    ids, mask, labels = batch()
    out = model(ids, mask, labels=labels, output_hidden_states=True, output_attentions=True)
    assert len(out.hidden_states) == 3 and len(out.attentions) == 1
    found = model(ids, mask, labels=labels, return_dict=False)
    assert torch.equal(found[0], out.loss) and torch.equal(found[1], out.logits)
