import numpy as np
import pytest
import torch

from bertkernels.models.electra import ElectraOutput
from bertkernels.training.metrics import classification_metrics, regression_metrics
from bertkernels.training.pretraining_metrics import averages, batch_sums

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference here")
scipy_stats = pytest.importorskip("scipy.stats", reason="SciPy is the reference here")


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classification_equals_scikit_learn(classes):
    generator = np.random.default_rng(classes)
    labels = generator.integers(classes, size=300)
    predictions = np.where(generator.random(300) < 0.6, labels, generator.integers(classes, size=300))
    found = classification_metrics(predictions, labels, classes)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    average = "binary" if classes == 2 else "macro"
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predictions, average=average))
    assert found["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, predictions))


def test_classification_of_one_class_only():
    found = classification_metrics(np.zeros(4, dtype=int), np.array([0, 0, 1, 0]), 2)
    assert found == {"accuracy": 0.75, "f1": 0.0, "mcc": 0.0}


def test_regression_equals_scipy_with_ties():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 11, size=200) / 2
    predictions = np.round(labels + generator.normal(size=200), 1)
    found = regression_metrics(predictions, labels)
    assert found["pearson"] == pytest.approx(scipy_stats.pearsonr(predictions, labels)[0])
    assert found["spearman"] == pytest.approx(scipy_stats.spearmanr(predictions, labels)[0])
    assert found["mse"] == pytest.approx(np.mean((predictions - labels) ** 2))
    assert regression_metrics(np.ones(3), np.arange(3.0))["spearman"] == 0.0


def _batch(seed, tokens=40, predictions=6, vocabulary=11):
    generator = torch.Generator().manual_seed(seed)
    batch = {
        "attention_mask": (torch.arange(tokens) < torch.tensor([[tokens], [tokens // 2]])).long(),
        "masked_lm_ids": torch.randint(vocabulary, (2, predictions), generator=generator),
        "masked_lm_weights": (torch.arange(predictions) < torch.tensor([[predictions], [2]])).float(),
    }
    replaced = (torch.rand(2, tokens, generator=generator) < 0.3).long() * batch["attention_mask"]
    outputs = ElectraOutput(
        masked_lm_loss=torch.rand((), generator=generator),
        discriminator_loss=torch.rand((), generator=generator),
        masked_lm_logits=torch.randn(2, predictions, vocabulary, generator=generator),
        discriminator_logits=torch.randn(2, tokens, generator=generator) + replaced,
        sampled_ids=torch.randint(vocabulary, (2, predictions), generator=generator),
        replaced_labels=replaced,
    )
    return outputs, batch


def test_pretraining_metrics_over_batches_equal_scikit_learn_over_all_tokens():
    parts = [_batch(seed) for seed in range(3)]
    sums = [batch_sums(*part) for part in parts]
    found = averages({name: sum(part[name] for part in sums) for name in sums[0]})

    def gathered(select, mask):
        return torch.cat([select(outputs, batch)[batch[mask].bool()] for outputs, batch in parts]).numpy()

    labels = gathered(lambda outputs, batch: outputs.replaced_labels, "attention_mask")
    scores = gathered(lambda outputs, batch: outputs.discriminator_logits, "attention_mask")
    assert found["rtd_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, scores > 0))
    assert found["rtd_precision"] == pytest.approx(sklearn_metrics.precision_score(labels, scores > 0))
    assert found["rtd_recall"] == pytest.approx(sklearn_metrics.recall_score(labels, scores > 0))
    assert found["rtd_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=2e-3)
    right = gathered(
        lambda outputs, batch: outputs.masked_lm_logits.argmax(-1) == batch["masked_lm_ids"], "masked_lm_weights"
    )
    assert found["masked_lm_accuracy"] == pytest.approx(right.mean())
    right = gathered(lambda outputs, batch: outputs.sampled_ids == batch["masked_lm_ids"], "masked_lm_weights")
    assert found["sampled_masked_lm_accuracy"] == pytest.approx(right.mean())
    # Every batch here has as many tokens and predictions.
    assert found["generator_loss"] == pytest.approx(np.mean([outputs.masked_lm_loss for outputs, _ in parts]))
    assert found["discriminator_loss"] == pytest.approx(np.mean([outputs.discriminator_loss for outputs, _ in parts]))


def test_what_is_undefined_is_zero():
    outputs, batch = _batch(0)
    outputs.replaced_labels = torch.zeros_like(outputs.replaced_labels)
    outputs.discriminator_logits = torch.full_like(outputs.discriminator_logits, float("nan"))
    found = averages(batch_sums(outputs, batch))
    assert found["rtd_precision"] == found["rtd_recall"] == found["rtd_auc"] == 0.0
    assert found["rtd_accuracy"] == 1.0
