import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForMultipleChoice

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.multiple_choice import EncoderForMultipleChoice

LENGTHS = ((8, 5, 2), (4, 8, 6))  # of two questions' three choices


def build(**fields):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    rest = {"initializer_range": 0.2, "plan": "mixed ffn"}
    return EncoderForMultipleChoice(EncoderConfig(**{**sizes, **rest, **fields})).eval()


def batch():
    """ids, mask, types [2, 3, 8]"""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (2, 3, 8), generator=generator)
    mask = (torch.arange(8) < torch.tensor(LENGTHS)[..., None]).long()
    return ids, mask, torch.randint(0, 2, (2, 3, 8), generator=generator)


@pytest.mark.parametrize("fields", [{}, {"pooler": True}, {"classifier_hidden_act": "gelu"}])
def test_each_choice_is_scored_alone(fields):
    model = build(**fields)
    ids, mask, types = batch()
    found = model(ids, mask, types).logits
    assert found.shape == (2, 3)
    for row in range(2):
        for choice in range(3):
            length = LENGTHS[row][choice]
            alone = model(ids[row, choice, :length][None, None], None, types[row, choice, :length][None, None]).logits
            torch.testing.assert_close(found[row, choice], alone[0, 0], atol=1e-5, rtol=1e-5)


def test_the_score_is_of_the_first_token():
    model = build(pooler=True)
    ids, mask, types = batch()
    states = model.model(ids[0], mask[0], types[0]).last_hidden_state[:, 0]
    expected = model.classifier.output(torch.tanh(model.model.pooler(states)))[:, 0]
    torch.testing.assert_close(model(ids, mask, types).logits[0], expected)
    embedded = model.model.embeddings.word_embeddings(ids)
    found = model(attention_mask=mask, token_type_ids=types, inputs_embeds=embedded).logits
    torch.testing.assert_close(found[0], expected)


def test_loss_and_gradients():
    model = build(pooler=True, classifier_hidden_act="gelu")
    labels = torch.tensor([2, 0])
    out = model(*batch(), labels=labels)
    torch.testing.assert_close(out.loss, functional.cross_entropy(out.logits, labels))
    assert torch.equal(model(*batch(), labels=labels, return_dict=False)[1], out.logits)
    model.train()(*batch(), labels=labels).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_bad_shapes_are_named():
    ids, mask, _ = batch()
    with pytest.raises(ValueError, match=r"choices must be \[B, N, T\], got \[3, 8\]"):
        build()(ids[0])
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        build()(attention_mask=mask)


def test_it_round_trips(tmp_path):
    model = build(classifier_hidden_act="gelu")
    model.save_pretrained(tmp_path)
    for loaded in (AutoModelForMultipleChoice.from_pretrained(tmp_path).eval(), load_ours(tmp_path)):
        assert type(loaded) is EncoderForMultipleChoice
        assert torch.equal(loaded(*batch()).logits, model(*batch()).logits)


def test_from_a_pre_trained_encoder(tmp_path):
    encoder = EncoderModel(build().config)
    encoder.save_pretrained(tmp_path)
    model, report = AutoModelForMultipleChoice.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {"classifier.output.weight", "classifier.output.bias"}
    assert model.classifier.output.weight.shape == (1, 32)
