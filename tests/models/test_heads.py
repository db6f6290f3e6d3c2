import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import (
    EncoderForMaskedLM,
    EncoderForReplacedTokenDetection,
    EncoderForSequenceClassification,
    gather_positions,
    replaced_token_loss,
)


def config(**fields):
    sizes = {"vocab_size": 50, "hidden_size": 32, "embedding_size": 16, "num_attention_heads": 4}
    rest = {"intermediate_size": 48, "max_position_embeddings": 16, "initializer_range": 0.2, "plan": "mixed ffn"}
    return EncoderConfig(**{**sizes, **rest, **fields})


def build(head, **fields):
    torch.manual_seed(0)
    return head(config(**fields)).eval()


def batch():
    ids = torch.randint(1, 50, (3, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] * 2 + [0] * 6])
    return ids, mask


# -- masked language model ---------------------------------------------------------------------------------------------


def test_masked_lm_predicts_with_the_word_embeddings():
    model = build(EncoderForMaskedLM)
    ids, mask = batch()
    x = model.model(ids, mask).last_hidden_state
    head = model.prediction
    x = functional.layer_norm(functional.gelu(head.dense(x)), (16,), head.norm.weight, head.norm.bias, 1e-12)
    expected = x @ model.model.embeddings.word_embeddings.weight.T + head.bias
    torch.testing.assert_close(model(ids, mask).logits, expected)
    assert head.decoder.weight is model.model.embeddings.word_embeddings.weight
    assert head.dense.weight.shape == (16, 32) and head.bias.shape == (50,)


def test_masked_lm_loss_is_over_labelled_positions():
    model = build(EncoderForMaskedLM)
    ids, mask = batch()
    labels = torch.full_like(ids, -100)
    labels[0, 3], labels[1, 2], labels[1, 4] = 7, 8, 9
    out = model(ids, mask, labels=labels)
    log = out.logits.log_softmax(-1)
    torch.testing.assert_close(out.loss, -(log[0, 3, 7] + log[1, 2, 8] + log[1, 4, 9]) / 3)
    assert model(ids, mask, labels=torch.full_like(ids, -100)).loss == 0
    positions = torch.tensor([[3, 0], [2, 4], [0, 0]])
    picked = model(ids, mask, masked_positions=positions, labels=torch.tensor([[7, -100], [8, 9], [-100, -100]]))
    assert picked.logits.shape == (3, 2, 50)
    torch.testing.assert_close(picked.logits, gather_positions(out.logits, positions))
    torch.testing.assert_close(picked.loss, out.loss)
    with pytest.raises(ValueError, match=r"labels must be \[3, 2\] like the logits, got \[3, 8\]"):
        model(ids, mask, masked_positions=positions, labels=labels)


def test_masked_lm_saves_the_tied_weight_once(tmp_path):
    model = build(EncoderForMaskedLM)
    torch.nn.init.normal_(model.prediction.bias)
    model.save_pretrained(tmp_path)
    for loader in (EncoderForMaskedLM, AutoModelForMaskedLM):
        loaded, report = loader.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert loaded.prediction.decoder.weight is loaded.model.embeddings.word_embeddings.weight
        assert torch.equal(loaded.eval()(*batch()).logits, model(*batch()).logits)
    # an encoder alone lacks exactly the head, which then starts as a new one does
    model.model.save_pretrained(tmp_path / "encoder")
    loaded, report = EncoderForMaskedLM.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"prediction"}
    assert "prediction.decoder.weight" not in report["missing_keys"]
    assert (loaded.prediction.bias == 0).all() and (loaded.prediction.norm.weight == 1).all()
    assert torch.equal(loaded.model.embeddings.word_embeddings.weight, model.model.embeddings.word_embeddings.weight)


def test_untied_masked_lm(tmp_path):
    model = build(EncoderForMaskedLM, tie_word_embeddings=False)
    assert model.prediction.decoder.weight is not model.model.embeddings.word_embeddings.weight
    model.save_pretrained(tmp_path)
    loaded = EncoderForMaskedLM.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(*batch()).logits, model(*batch()).logits)


@pytest.mark.parametrize("tokens", [60, 40])
def test_masked_lm_with_another_vocabulary(tokens):
    model = build(EncoderForMaskedLM)
    torch.nn.init.normal_(model.prediction.bias)
    ids, mask = batch()
    ids = ids.clamp(max=39)
    before = model(ids, mask).logits
    model.resize_token_embeddings(tokens, mean_resizing=False)
    after = model(ids, mask).logits
    assert after.shape[-1] == tokens and model.config.vocab_size == tokens
    torch.testing.assert_close(after[..., :40], before[..., :40])
    assert model.prediction.decoder.weight is model.get_input_embeddings().weight


# -- replaced-token detection ------------------------------------------------------------------------------------------


def test_replaced_token_detection():
    model = build(EncoderForReplacedTokenDetection)
    ids, mask = batch()
    labels = (torch.arange(24).view(3, 8) % 3 == 0).long()
    out = model(ids, mask, labels=labels)
    assert out.logits.shape == (3, 8)
    head = model.prediction
    expected = head.output(functional.gelu(head.dense(model.model(ids, mask).last_hidden_state)))[..., 0]
    torch.testing.assert_close(out.logits, expected)
    losses = functional.binary_cross_entropy_with_logits(expected, labels.float(), reduction="none")
    torch.testing.assert_close(out.loss, losses[mask.bool()].mean(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model(ids, labels=labels).loss, model(ids, torch.ones_like(mask), labels=labels).loss)


def test_replaced_token_loss_leaves_out_what_it_is_told_to():
    logits, labels = torch.randn(2, 5), torch.randint(0, 2, (2, 5))
    ignored = labels.clone()
    ignored[0, 1:] = -100
    mask = torch.tensor([[1, 0, 0, 0, 0], [1] * 5])
    torch.testing.assert_close(replaced_token_loss(logits, ignored), replaced_token_loss(logits, labels, mask))
    assert replaced_token_loss(logits, labels, torch.zeros(2, 5)) == 0


def test_replaced_token_detection_round_trips(tmp_path):
    model = build(EncoderForReplacedTokenDetection)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path).eval()
    assert type(loaded) is EncoderForReplacedTokenDetection
    assert torch.equal(loaded(*batch()).logits, model(*batch()).logits)
    encoder, report = EncoderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert torch.equal(encoder.eval()(*batch()).last_hidden_state, model.model(*batch()).last_hidden_state)


# -- sequence classification -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, labels, expected",
    [
        ({"num_labels": 3}, torch.tensor([0, 2, 1]), lambda x, y: functional.cross_entropy(x, y)),
        ({"num_labels": 1}, torch.tensor([0.5, 1.0, -2.0]), lambda x, y: ((x[:, 0] - y) ** 2).mean()),
        ({"num_labels": 1}, torch.tensor([[1], [2], [3]]), lambda x, y: ((x - y) ** 2).mean()),
        (
            {"num_labels": 2},
            torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]),
            lambda x, y: functional.binary_cross_entropy_with_logits(x, y),
        ),
        (
            {"num_labels": 2, "problem_type": "multi_label_classification"},
            torch.tensor([[0, 1], [1, 1], [0, 0]]),
            lambda x, y: functional.binary_cross_entropy_with_logits(x, y.float()),
        ),
        (
            {"num_labels": 2, "problem_type": "regression"},
            torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]),
            lambda x, y: ((x - y) ** 2).mean(),
        ),
    ],
)
def test_classification_losses(fields, labels, expected):
    model = build(EncoderForSequenceClassification, **fields)
    out = model(*batch(), labels=labels)
    assert out.logits.shape == (3, fields["num_labels"])
    torch.testing.assert_close(out.loss, expected(out.logits, labels))
    assert model.config.problem_type == fields.get("problem_type")
    assert model(*batch()).loss is None


def test_classification_heads():
    ids, mask = batch()
    plain = build(EncoderForSequenceClassification, num_labels=3)
    first = plain.model(ids, mask).last_hidden_state[:, 0]
    torch.testing.assert_close(plain(ids, mask).logits, plain.classifier.output(first))
    hidden = build(EncoderForSequenceClassification, num_labels=3, classifier_hidden_act="gelu")
    first = hidden.model(ids, mask).last_hidden_state[:, 0]
    expected = hidden.classifier.output(functional.gelu(hidden.classifier.dense(first)))
    torch.testing.assert_close(hidden(ids, mask).logits, expected)
    pooled = build(EncoderForSequenceClassification, num_labels=3, pooler=True)
    first = torch.tanh(pooled.model.pooler(pooled.model(ids, mask).last_hidden_state[:, 0]))
    torch.testing.assert_close(pooled(ids, mask).logits, pooled.classifier.output(first))


def test_classifier_dropout():
    assert build(EncoderForSequenceClassification).classifier.dropout.p == 0.1
    assert build(EncoderForSequenceClassification, hidden_dropout_prob=0.3).classifier.dropout.p == 0.3
    assert build(EncoderForSequenceClassification, classifier_dropout=0.0).classifier.dropout.p == 0.0


def test_left_padded_sequences_are_classified_by_their_first_token():
    model = build(EncoderForSequenceClassification)
    ids, _ = batch()
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]] * 3)
    alone = model(ids[:, 2:]).logits
    torch.testing.assert_close(model(ids, mask).logits, alone, atol=1e-6, rtol=1e-5)


def test_classification_from_a_pre_trained_encoder(tmp_path):
    trained = build(EncoderForReplacedTokenDetection)
    trained.save_pretrained(tmp_path)
    model, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=5, classifier_hidden_act="gelu", output_loading_info=True
    )
    assert type(model) is EncoderForSequenceClassification
    assert set(report["missing_keys"]) == {
        f"classifier.{layer}.{name}" for layer in ("dense", "output") for name in ("weight", "bias")
    }
    for name, value in trained.model.state_dict().items():
        assert torch.equal(model.model.state_dict()[name], value), name
    bound = (6 / (32 + 5)) ** 0.5  # Glorot-uniform
    assert bound * 0.9 < model.classifier.output.weight.abs().max() <= bound
    assert (model.classifier.output.bias == 0).all()


# -- all heads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head", [EncoderForMaskedLM, EncoderForReplacedTokenDetection, EncoderForSequenceClassification]
)
def test_states_pass_through_and_tuples_start_with_the_loss(head):
    model = build(head)
    ids, mask = batch()
    labels = torch.zeros(3, dtype=torch.long) if head is EncoderForSequenceClassification else ids.clamp(max=1)
    out = model(ids, mask, labels=labels, output_hidden_states=True, output_attentions=True)
    assert len(out.hidden_states) == 3 and len(out.attentions) == 1
    as_tuple = model(ids, mask, labels=labels, return_dict=False)
    assert torch.equal(as_tuple[0], out.loss) and torch.equal(as_tuple[1], out.logits)


@pytest.mark.parametrize(
    "head", [EncoderForMaskedLM, EncoderForReplacedTokenDetection, EncoderForSequenceClassification]
)
def test_every_parameter_gets_a_gradient(head):
    model = build(head, pooler=True)
    ids, mask = batch()
    labels = torch.zeros(3, dtype=torch.long) if head is EncoderForSequenceClassification else ids.clamp(max=1)
    model.train()(ids, mask, labels=labels).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_trainer_trains_and_evaluates(tmp_path):
    model = build(EncoderForSequenceClassification, num_labels=2, hidden_dropout_prob=0.0)
    ids, mask = batch()
    rows = [{"input_ids": i, "attention_mask": m, "labels": int(i[0] > 25)} for i, m in zip(ids, mask, strict=True)]
    arguments = TrainingArguments(
        output_dir=tmp_path, num_train_epochs=40, learning_rate=3e-3, report_to=[], use_cpu=True, disable_tqdm=True,
        per_device_train_batch_size=3, save_strategy="no", logging_strategy="no", gradient_checkpointing=True,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.2 * before
    assert trainer.predict(rows).predictions.shape == (3, 2)
