import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, BertConfig, BertForPreTraining

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import IGNORED
from bertkernels.models.next_sentence import EncoderForMaskedLMAndNextSentence

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
SIZES |= {"max_position_embeddings": 16, "initializer_range": 0.2}


def model(**fields):
    torch.manual_seed(0)
    config = EncoderConfig(**{**SIZES, "plan": "2*(attention ffn)", "pooler": True, **fields})
    return EncoderForMaskedLMAndNextSentence(config).eval()


def batch():
    """Three pairs of different lengths; predictions at two places each, one of the six slots unused."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] * 4 + [0] * 4])
    return {
        "input_ids": torch.randint(4, 50, (3, 8), generator=generator) * mask,
        "attention_mask": mask,
        "token_type_ids": (torch.arange(8) >= 3).long() * mask,
        "masked_positions": torch.tensor([[1, 5], [3, 0], [2, 1]]),
        "labels": torch.tensor([[7, 9], [11, IGNORED], [13, 15]]),
        "next_sentence_label": torch.tensor([0, 1, 1]),
    }


def test_it_computes_what_hugging_faces_bert_does():
    """The same weights in both: logits and both losses agree, and so do the gradients of the shared table."""
    ours, given = model(), batch()
    theirs = BertForPreTraining(BertConfig(num_hidden_layers=2, **SIZES)).eval()
    theirs.load_state_dict(_as_bert(ours), strict=True)
    labels = torch.full((3, 8), IGNORED)
    counted = given["labels"] != IGNORED
    rows = torch.arange(3)[:, None].expand(3, 2)
    labels[rows[counted], given["masked_positions"][counted]] = given["labels"][counted]
    inputs = {name: given[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    wanted = theirs(**inputs, labels=labels, next_sentence_label=given["next_sentence_label"])
    found = ours(**given)
    torch.testing.assert_close(found.next_sentence_logits, wanted.seq_relationship_logits, atol=1e-5, rtol=1e-5)
    at_places = wanted.prediction_logits[rows, given["masked_positions"]]
    torch.testing.assert_close(found.masked_lm_logits, at_places, atol=1e-5, rtol=1e-5)
    assert found.loss.item() == pytest.approx(wanted.loss.item(), rel=1e-5)
    torch.testing.assert_close(found.loss, found.masked_lm_loss + found.next_sentence_loss)
    found.loss.backward()
    wanted.loss.backward()
    table = theirs.bert.embeddings.word_embeddings.weight.grad.clone()
    table[0] = ours.get_input_embeddings().weight.grad[0]  # theirs takes no gradient at padding's own row
    torch.testing.assert_close(ours.get_input_embeddings().weight.grad, table, atol=1e-5, rtol=1e-4)
    everywhere = ours(**inputs, labels=labels, next_sentence_label=given["next_sentence_label"])
    torch.testing.assert_close(everywhere.loss, found.loss)


def _as_bert(ours):
    names = {
        "model.embeddings.norm": "bert.embeddings.LayerNorm",
        "model.embeddings": "bert.embeddings",
        "model.pooler": "bert.pooler.dense",
        "prediction.dense": "cls.predictions.transform.dense",
        "prediction.norm": "cls.predictions.transform.LayerNorm",
        "prediction.bias": "cls.predictions.bias",
        "prediction.decoder": "cls.predictions.decoder",
        "next_sentence": "cls.seq_relationship",
    }
    state = {}
    for name, value in ours.state_dict().items():
        new = next((theirs + name[len(mine) :] for mine, theirs in names.items() if name.startswith(mine)), None)
        if new is None:
            new = _layer_name(name)
        state[new] = value
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    return state


def _layer_name(name):
    _, _, _, block, _, sublayer, *rest = name.split(".")
    parts = {
        ("0", "function.query"): "attention.self.query",
        ("0", "function.key"): "attention.self.key",
        ("0", "function.value"): "attention.self.value",
        ("0", "function.output"): "attention.output.dense",
        ("0", "norm"): "attention.output.LayerNorm",
        ("1", "function.up"): "intermediate.dense",
        ("1", "function.down"): "output.dense",
        ("1", "norm"): "output.LayerNorm",
    }
    return f"bert.encoder.layer.{block}.{parts[sublayer, '.'.join(rest[:-1])]}.{rest[-1]}"


def test_losses_and_what_takes_no_part_in_them():
    ours, given = model(plan="mixed ffn", embedding_size=16), batch()
    found = ours(**given)
    losses = functional.cross_entropy(found.next_sentence_logits, given["next_sentence_label"], reduction="none")
    assert found.next_sentence_loss.item() == pytest.approx(losses.mean().item(), rel=1e-6)
    given["next_sentence_label"] = torch.tensor([0, 1, IGNORED])
    assert ours(**given).next_sentence_loss.item() == pytest.approx(losses[:2].mean().item(), rel=1e-6)
    assert ours(**given | {"labels": None}).loss == ours(**given).next_sentence_loss
    assert ours(**given | {"next_sentence_label": None}).loss == found.masked_lm_loss
    assert ours(**given | {"labels": None, "next_sentence_label": None}).loss is None
    with pytest.raises(ValueError, match=r"labels must be \[3, 2\] like the logits"):
        ours(**given | {"labels": given["labels"][:, :1]})


def test_every_parameter_trains_with_a_pooler_of_its_own_accord():
    ours = model(pooler=False).train()
    assert ours.model.pooler is not None
    ours(**batch()).loss.backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_it_saves_the_tied_weight_once_and_others_start_from_it(tmp_path):
    ours = model()
    ours.save_pretrained(tmp_path)
    loaded, report = EncoderForMaskedLMAndNextSentence.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.prediction.decoder.weight is loaded.get_input_embeddings().weight
    for name, value in ours.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    tuned = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    assert torch.equal(tuned.model.pooler.weight, ours.model.pooler.weight)
    language_model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(language_model.prediction.dense.weight, ours.prediction.dense.weight)
