"""The loss on a teacher's logits against its formula."""

import pytest
import torch
from transformers import PreTrainedConfig

from bertkernels.training.theseus.distillation import distillation_loss


def kl(student, teacher, temperature):
    """T² Σ p (log p − log q), the mean over rows."""
    p, q = (torch.softmax(logits / temperature, -1) for logits in (teacher, student))
    return temperature**2 * (p * (p / q).log()).sum(-1).mean()


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_classes(logits, temperature):
    student, teacher = (x[:, 0] for x in logits)
    found = distillation_loss(
        {"logits": student}, {"logits": teacher}, PreTrainedConfig(), torch.tensor([0, 1]), temperature
    )
    torch.testing.assert_close(found.double(), kl(student, teacher, temperature), atol=1e-6, rtol=1e-5)


def test_tokens_that_have_no_label_do_not_count(logits):
    student, teacher = logits
    labels = torch.tensor([[0, 1, -100, -100, -100], [2, -100, 1, 0, -100]])
    found = distillation_loss({"logits": student}, {"logits": teacher}, PreTrainedConfig(), labels)
    counted = labels != -100
    torch.testing.assert_close(found.double(), kl(student[counted], teacher[counted], 1.0), atol=1e-6, rtol=1e-5)


def test_starts_and_ends(logits):
    student, teacher = ({"start_logits": x[:, :, 0], "end_logits": x[:, :, 1]} for x in logits)
    found = distillation_loss(student, teacher, PreTrainedConfig(), None)
    wanted = sum(kl(student[name], teacher[name], 1.0) for name in student)
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-5)


def test_numbers(logits):
    student, teacher = (x[:, :1, 0] for x in logits)
    config = PreTrainedConfig(problem_type="regression")
    found = distillation_loss({"logits": student}, {"logits": teacher}, config, torch.zeros(2), 3.0)
    torch.testing.assert_close(found.double(), ((student - teacher) ** 2).mean(), atol=1e-6, rtol=1e-5)
