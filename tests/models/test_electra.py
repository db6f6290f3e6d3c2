import math

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForPreTraining, AutoModelForSequenceClassification, Trainer
from transformers import TrainingArguments as Arguments

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import (
    ElectraConfig,
    ElectraForPreTraining,
    generator_config,
    gumbel_noise,
    sample_tokens,
    scatter_draws,
)
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForReplacedTokenDetection

VOCABULARY, MASK_ID = 60, 3


def discriminator(**fields):
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "embedding_size": 16, "num_attention_heads": 4}
    rest = {"intermediate_size": 64, "max_position_embeddings": 16, "initializer_range": 0.2, "plan": "mixed ffn"}
    return EncoderConfig(**{**sizes, **rest, **fields})


def pair(untied=False, **fields):
    torch.manual_seed(0)
    config = ElectraConfig(discriminator=discriminator(), untied_generator_embeddings=untied, **fields)
    return ElectraForPreTraining(config).eval()


def batch():
    """Three sequences; the second draws position 2 twice, the third uses one slot of four."""
    original = torch.randint(4, VOCABULARY, (3, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 10, [1] * 7 + [0] * 3, [1] * 3 + [0] * 7])
    positions = torch.tensor([[1, 5, 8, 3], [2, 4, 2, 0], [1, 0, 0, 0]])
    weights = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]])
    ids = original.gather(1, positions) * weights.long()
    masked = original.clone()
    for row, column in (weights > 0).nonzero().tolist():
        if (row, column) != (0, 3):  # one draw keeps its token
            masked[row, positions[row, column]] = MASK_ID
    return {
        "input_ids": masked,
        "original_input_ids": original,
        "attention_mask": mask,
        "masked_lm_positions": positions,
        "masked_lm_ids": ids,
        "masked_lm_weights": weights,
    }


# -- the objective -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicates", ["first", "average"])
def test_objective_is_the_published_one(duplicates):
    """Every number written out again, slot by slot."""
    model = pair(duplicate_draws=duplicates)
    given = batch()
    sampled = torch.tensor([[7, 9, 11, 13], [20, 21, 31, 50], [40, 50, 50, 50]])
    sampled[0, 1] = given["masked_lm_ids"][0, 1]  # the generator got one right
    out = model(**given, sampled_ids=sampled)

    at = given["masked_lm_positions"]
    logits = model.generator(given["input_ids"], given["attention_mask"]).logits  # [B, T, V]
    total, count = 0.0, 0
    corrupted = given["original_input_ids"].clone()
    for row, slot in (given["masked_lm_weights"] > 0).nonzero().tolist():
        position, true = at[row, slot], given["masked_lm_ids"][row, slot]
        torch.testing.assert_close(out.masked_lm_logits[row, slot], logits[row, position])
        total += functional.cross_entropy(logits[row, position], true).item()
        count += 1
        corrupted[row, position] = sampled[row, slot]
    corrupted[1, 2] = 20 if duplicates == "first" else (20 + 31) // 2
    assert torch.equal(out.corrupted_input_ids, corrupted)
    assert count == 8 and out.masked_lm_loss.item() == pytest.approx(total / (8 + 1e-6), rel=1e-5)

    labels = (corrupted != given["original_input_ids"]).long()
    assert torch.equal(out.replaced_labels, labels) and labels[0, 5] == 0 and labels.sum() == 6
    logits = model.discriminator(corrupted, given["attention_mask"]).logits
    losses = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
    real = given["attention_mask"].bool()
    torch.testing.assert_close(out.discriminator_logits, logits)
    assert out.discriminator_loss.item() == pytest.approx(losses[real].mean().item(), rel=1e-5)
    assert out.loss.item() == pytest.approx(out.masked_lm_loss.item() + 50 * out.discriminator_loss.item(), rel=1e-6)


def test_weights_of_the_losses():
    model = pair(masked_lm_weight=2.0, discriminator_weight=3.0)
    out = model(**batch())
    torch.testing.assert_close(out.loss, 2 * out.masked_lm_loss + 3 * out.discriminator_loss)


def test_the_original_need_not_be_given():
    model, given = pair(), batch()
    sampled = torch.full((3, 4), 17)
    with_it = model(**given, sampled_ids=sampled)
    del given["original_input_ids"]
    without = model(**given, sampled_ids=sampled)
    assert torch.equal(with_it.corrupted_input_ids, without.corrupted_input_ids)
    assert torch.equal(with_it.loss, without.loss)


def test_unused_slots_are_not_read():
    model, given = pair(), batch()
    sampled = torch.full((3, 4), 17)
    expected = model(**given, sampled_ids=sampled)
    unused = given["masked_lm_weights"] == 0
    given["masked_lm_positions"] = given["masked_lm_positions"].masked_fill(unused, 6)
    given["masked_lm_ids"] = given["masked_lm_ids"].masked_fill(unused, 9)
    found = model(**given, sampled_ids=sampled.masked_fill(unused, 33))
    assert torch.equal(found.corrupted_input_ids, expected.corrupted_input_ids)
    torch.testing.assert_close(found.loss, expected.loss)


def test_nothing_drawn_and_nothing_real():
    model, given = pair(), batch()
    given["masked_lm_weights"] = torch.zeros(3, 4)
    out = model(**given)
    assert out.masked_lm_loss == 0 and torch.equal(out.corrupted_input_ids, given["original_input_ids"])
    given["attention_mask"] = torch.zeros(3, 10, dtype=torch.long)
    assert model(**given).loss == 0


def test_no_gradient_passes_from_the_discriminator_to_the_generators_own_weights():
    model = pair(masked_lm_weight=0.0)
    model(**batch()).loss.backward()
    for name, parameter in model.named_parameters():
        shared = "embeddings." in name
        if name.startswith("generator.") and not shared:
            assert (parameter.grad == 0).all(), name
        else:
            assert parameter.grad is not None, name
    assert model.discriminator.model.embeddings.word_embeddings.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("untied", [False, True])
def test_every_parameter_trains(untied):
    model = pair(untied=untied).train()
    model(**batch()).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


# -- sampling ----------------------------------------------------------------------------------------------------------


def test_samples_follow_the_distribution():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0]).expand(1, 40_000, 4)
    for temperature in (1.0, 2.0):
        expected = (logits[0, 0] / temperature).softmax(-1)
        found = sample_tokens(logits, temperature=temperature)[0].bincount(minlength=4) / 40_000
        # five standard errors of a share p of n draws
        assert ((found - expected).abs() < 5 * (expected * (1 - expected) / 40_000).sqrt()).all()


def test_disallowed_tokens_are_not_sampled():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -1.0, 9.0]).expand(1, 1000, 4)
    found = sample_tokens(logits, disallowed=torch.full((1, 1000), 3))
    assert (found != 3).all() and set(found.flatten().tolist()) == {0, 1, 2}


def test_disallow_correct_is_about_the_true_tokens():
    given = batch()
    noise = torch.zeros(3, 4, VOCABULARY).scatter(-1, given["masked_lm_ids"][..., None], 50.0)
    right = pair()(**given, generator_noise=noise).sampled_ids
    assert torch.equal(right, given["masked_lm_ids"])
    wrong = pair(disallow_correct=True)(**given, generator_noise=noise).sampled_ids
    assert (wrong != given["masked_lm_ids"]).all()


def test_noise_at_the_ends_is_finite():
    assert gumbel_noise(torch.tensor([0.0, 1.0, 0.5])).isfinite().all()


def test_scatter_is_a_copy_and_first_wins_among_many():
    ids = torch.arange(12).view(2, 6)
    positions = torch.tensor([[1, 1, 1, 0], [5, 0, 5, 3]])
    updates = torch.tensor([[70, 71, 72, 73], [80, 81, 82, 83]])
    drawn = torch.tensor([[False, True, True, True], [True, False, True, True]])
    found = scatter_draws(ids, positions, updates, drawn)
    assert found.tolist() == [[73, 71, 2, 3, 4, 5], [6, 7, 8, 83, 10, 80]]
    averaged = scatter_draws(ids, positions, updates, drawn, duplicates="average")
    assert averaged.tolist() == [[73, 71, 2, 3, 4, 5], [6, 7, 8, 83, 10, 81]]
    assert ids.tolist() == torch.arange(12).view(2, 6).tolist()


# -- configuration -----------------------------------------------------------------------------------------------------


def test_generator_configurations():
    made = generator_config(discriminator(head_ratio=2, plan="2*(mixed ffn[groups=2])", padding="reference"), 0.5)
    assert (made.hidden_size, made.num_attention_heads, made.intermediate_size, made.embedding_size) == (16, 2, 32, 16)
    assert made.plan == "2*(mixed ffn[groups=2])" and made.padding == "reference"
    assert generator_config(discriminator(), 1 / 8).num_attention_heads == 1
    assert generator_config(discriminator(), 0.25, untied_embeddings=True).embedding_size == 8
    plan = "2*attention 2*(mixed ffn)"
    fewer = [generator_config(discriminator(plan=plan), 0.5, layers=share).plan for share in (1.0, 0.75, 0.5, 0.01)]
    assert fewer == [plan, "2*attention (mixed ffn)", "2*attention", "attention"]


def test_configuration_round_trips(tmp_path):
    config = ElectraConfig(discriminator=discriminator(), temperature=2.0, duplicate_draws="average")
    config.save_pretrained(tmp_path)
    for loaded in (ElectraConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded.generator, EncoderConfig) and isinstance(loaded.discriminator, EncoderConfig)
        assert loaded.generator.to_dict() == config.generator.to_dict()
        assert (loaded.temperature, loaded.duplicate_draws) == (2.0, "average")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"generator": discriminator(embedding_size=8)}, "embedding_size of generator and discriminator must be the"),
        ({"generator": discriminator(vocab_size=61), "untied_generator_embeddings": True}, "vocab_size of generator"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"discriminator_weight": -1}, "discriminator_weight must not be negative"),
        ({"duplicate_draws": "last"}, "duplicate_draws must be one of first, average, got 'last'"),
        ({"untied_generator": False, "generator": discriminator()}, "generator can't be given where untied_generator"),
        ({"uniform_generator": True, "untied_generator_embeddings": True}, "can't be given with uniform_generator"),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        ElectraConfig(**{"discriminator": discriminator(), **fields})


# -- one set of embeddings, saving, training ---------------------------------------------------------------------------


def one_set_of_embeddings(model):
    words = model.discriminator.model.embeddings.word_embeddings.weight
    return (
        model.generator.model.embeddings is model.discriminator.model.embeddings
        and model.generator.prediction.decoder.weight is words
        and model.get_input_embeddings().weight is words
    )


def test_shared_embeddings_save_once_and_load(tmp_path):
    model = pair()
    assert one_set_of_embeddings(model)
    model.save_pretrained(tmp_path)
    for loader in (ElectraForPreTraining, AutoModelForPreTraining):
        loaded, report = loader.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is ElectraForPreTraining and one_set_of_embeddings(loaded)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        for name, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name
    loaded.load_state_dict(model.state_dict())
    assert one_set_of_embeddings(loaded)


def test_untied_embeddings(tmp_path):
    model = pair(untied=True)
    own = model.generator.model.embeddings
    assert own.word_embeddings.weight.shape == (VOCABULARY, 8)
    assert own is not model.discriminator.model.embeddings
    assert model.generator.model.embeddings_projection is None
    assert model.generator.prediction.decoder.weight is own.word_embeddings.weight
    model.save_pretrained(tmp_path)
    loaded = ElectraForPreTraining.from_pretrained(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_one_network_for_both_roles(tmp_path):
    model, given = pair(untied_generator=False), batch()
    assert model.generator.model is model.discriminator.model and model.config.generator is None
    encoder, both = model.discriminator.model, [model.generator.prediction, model.discriminator.prediction]
    alone = [encoder.num_parameters(), *(sum(p.numel() for p in head.parameters()) for head in both)]
    words = encoder.embeddings.word_embeddings.weight
    assert model.num_parameters() == sum(alone) - words.numel(), "the decoder's weight is the word table"
    out = model(**given, sampled_ids=torch.full((3, 4), 17))
    hidden = encoder(given["input_ids"], given["attention_mask"]).last_hidden_state
    torch.testing.assert_close(out.masked_lm_logits[0, 1], model.generator.prediction(hidden[0, 5]))
    model.train()(**given).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval().save_pretrained(tmp_path)
    loaded, report = ElectraForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.generator.model is loaded.discriminator.model
    assert torch.equal(loaded(**given, sampled_ids=torch.full((3, 4), 17)).loss, out.loss)


def test_a_uniform_generator_is_no_network(tmp_path):
    model, given = pair(uniform_generator=True), batch()
    assert model.generator is None and model.num_parameters() == model.discriminator.num_parameters()
    out = model(**given)
    assert out.masked_lm_loss.item() == pytest.approx(math.log(VOCABULARY), rel=1e-5)
    out.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.manual_seed(0)
    sampled = torch.stack([model(**given).sampled_ids for _ in range(400)])[:, given["masked_lm_weights"] > 0]
    expected = sampled.numel() / VOCABULARY
    counts = sampled.flatten().bincount(minlength=VOCABULARY)
    assert (counts - expected).abs().max() < 5 * expected**0.5, "each token as likely"
    model.save_pretrained(tmp_path)
    loaded = ElectraForPreTraining.from_pretrained(tmp_path)
    assert loaded.generator is None and loaded.config.uniform_generator
    sampled = torch.full((3, 4), 17)
    assert torch.equal(loaded(**given, sampled_ids=sampled).loss, model(**given, sampled_ids=sampled).loss)


def test_the_discriminator_leaves_alone(tmp_path):
    model, given = pair(), batch()
    model.discriminator.save_pretrained(tmp_path / "discriminator")
    alone = EncoderForReplacedTokenDetection.from_pretrained(tmp_path / "discriminator").eval()
    expected = model.discriminator(given["input_ids"], given["attention_mask"])
    assert torch.equal(alone(given["input_ids"], given["attention_mask"]).logits, expected.logits)
    model.discriminator.model.save_pretrained(tmp_path / "encoder")
    _, report = EncoderModel.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tuned = AutoModelForSequenceClassification.from_pretrained(tmp_path / "discriminator", num_labels=3)
    assert torch.equal(tuned.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_gradient_checkpointing_changes_nothing():
    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        model = ElectraForPreTraining(ElectraConfig(discriminator=discriminator(**off))).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**batch(), sampled_ids=torch.full((3, 4), 17)).loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)


def test_compiles_to_one_graph_without_packing():
    torch._dynamo.reset()
    model, given = pair(), batch()
    del given["attention_mask"]
    noise = gumbel_noise(torch.rand(3, 4, VOCABULARY))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    expected = model(**given, generator_noise=noise)
    found = compiled(**given, generator_noise=noise)
    torch.testing.assert_close(found.loss, expected.loss)
    found.loss.backward()
    assert compiled(**given).loss.isfinite()


def test_trainer_trains_the_pair(tmp_path):
    model = pair()
    model.train()
    rows = [dict(zip(batch(), values, strict=True)) for values in zip(*batch().values(), strict=True)]
    arguments = Arguments(
        output_dir=tmp_path, max_steps=30, learning_rate=3e-3, report_to=[], use_cpu=True, disable_tqdm=True,
        per_device_train_batch_size=3, save_strategy="no", logging_strategy="no", label_names=["masked_lm_ids"],
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    torch.manual_seed(0)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.7 * before
    assert one_set_of_embeddings(model)
