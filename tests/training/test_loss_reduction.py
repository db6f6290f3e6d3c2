"""The loss as ELECTRA's fine-tuning sums it."""

import datasets
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bertkernels.data.labelled_text import LabelledText
from bertkernels.data.tasks import Task
from bertkernels.errors import InputError
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.tasks.text_classification import TextClassification
from bertkernels.training.training_arguments import FinetuneRunArguments


@pytest.fixture
def trained(tiny_classifier, tmp_path):
    """Makes one step of plain SGD and returns the weights it led to."""
    folder = tiny_classifier(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    rows = LabelledText(["a good row", "bad", "row", "good"] * 2, None, ["1", "0", "0", "1"] * 2, [""] * 8)
    task = TextClassification(Task("tiny", rows, {}, ["0", "1"], "accuracy"))

    def train(reduction, batch, accumulation, learning_rate):
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        features: datasets.Dataset = task.encode(rows, tokenizer, 16, training=True)
        args = FinetuneRunArguments(
            output_dir=str(tmp_path / "out"),
            optim="sgd",
            weight_decay=0.0,
            warmup_steps=0,
            max_grad_norm=1e9,
            max_steps=1,
            learning_rate=learning_rate,
            loss_reduction=reduction,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        )
        trainer = FinetuningTrainer(
            model=model,
            args=args,
            task=task,
            evaluation={},
            train_dataset=features,
            data_collator=task.collator(tokenizer, 16, False),
            processing_class=tokenizer,
        )
        trainer.train()
        return torch.cat([weight.detach().flatten() for weight in model.parameters()])

    return train


def test_a_sum_is_the_mean_times_the_rows(trained):
    mean = trained("mean", 8, 1, 0.08)
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        summed = trained("sum", batch, accumulation, 0.01)
        torch.testing.assert_close(summed, mean, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(trained("sum", 8, 1, 0.08), mean, atol=1e-4)


def test_other_reductions_are_refused(tmp_path):
    with pytest.raises(InputError, match="--loss_reduction must be one of mean, sum, not 'max'"):
        FinetuneRunArguments(output_dir=str(tmp_path), loss_reduction="max")
