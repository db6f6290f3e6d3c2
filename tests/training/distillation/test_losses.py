import pytest
import torch

from bertkernels.errors import InputError
from bertkernels.training.distillation.block_map import block_map
from bertkernels.training.distillation.losses import attention_loss, hidden_loss, soft_cross_entropy


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_soft_cross_entropy_is_the_formula():
    student, teacher = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    for temperature in (1.0, 2.0):
        wanted = torch.exp(teacher / temperature) / torch.exp(teacher / temperature).sum(-1, keepdim=True)
        found = torch.log(torch.exp(student / temperature) / torch.exp(student / temperature).sum(-1, keepdim=True))
        expected = -(wanted * found).sum(-1).mean()
        torch.testing.assert_close(
            soft_cross_entropy(student, teacher, temperature).double(), expected, rtol=1e-5, atol=1e-6
        )
        mean = soft_cross_entropy(student, teacher, temperature, "elements")
        torch.testing.assert_close(mean.double(), expected / 3, rtol=1e-5, atol=1e-6)


def test_hidden_states():
    student, teacher = torch.randn(4, 8), torch.randn(4, 8)
    torch.testing.assert_close(hidden_loss(student, teacher), ((student - teacher) ** 2).mean())


def test_its_minimum_is_the_teacher():
    logits = torch.randn(4, 3)
    student = logits.clone().requires_grad_()
    soft_cross_entropy(student, logits).backward()
    assert student.grad.abs().max() < 1e-6
    with pytest.raises(ValueError, match="reduction must be one of batch, elements"):
        soft_cross_entropy(logits, logits, reduction="sum")


def test_excluded_positions_of_spans_add_nothing():
    student, teacher = torch.randn(2, 6), torch.randn(2, 6)
    longer = [torch.cat([logits, torch.full((2, 3), -1000.0)], 1) for logits in (student, teacher)]
    torch.testing.assert_close(soft_cross_entropy(*longer), soft_cross_entropy(student, teacher))


def _one_by_one(student, teacher, lengths):
    total, count = 0.0, 0
    for row, length in enumerate(lengths):
        difference = student[row, :, :length, :length] - teacher[row, :, :length, :length]
        total, count = total + difference.square().sum(), count + difference.numel()
    return total / count


def test_attention_counts_pairs_of_real_tokens():
    student, teacher, lengths = torch.randn(3, 2, 5, 5), torch.randn(3, 2, 5, 5), [5, 3, 1]
    real = torch.arange(5) < torch.tensor(lengths)[:, None]
    torch.testing.assert_close(attention_loss(student, teacher, real), _one_by_one(student, teacher, lengths))
    pairs = (real[:, :, None] & real[:, None, :])[:, None]
    poisoned = student.masked_fill(~pairs, torch.nan).requires_grad_()
    loss = attention_loss(poisoned, teacher, real)
    torch.testing.assert_close(loss, _one_by_one(student, teacher, lengths))
    loss.backward()
    assert not poisoned.grad.isnan().any() and not poisoned.grad[~pairs.expand_as(poisoned)].any()


def test_attention_as_the_originals_count_it():
    student, teacher = torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4)
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    student[0, 0, 0, 0], teacher[0, 1, 2, 2] = -150, -100
    mask = torch.where(real, 0.0, -10000.0)[:, None, None, :]
    zeroed = [torch.where(scores + mask <= -100, 0, scores + mask) for scores in (student, teacher)]
    expected = (zeroed[0] - zeroed[1]).square().mean()
    torch.testing.assert_close(attention_loss(student, teacher, real, at_padding=True), expected)


def test_no_tokens_add_nothing():
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    scores = torch.randn(2, 2, 3, 3)
    assert hidden_loss(torch.zeros(0, 8), torch.zeros(0, 8)) == 0
    assert attention_loss(scores, scores + 1, nothing) == 0


def test_losses_of_half_precision_are_in_fp32():
    states = torch.randn(4, 8).bfloat16()
    assert hidden_loss(states, states.float() + 1).dtype == torch.float32
    assert soft_cross_entropy(states, states).dtype == torch.float32


@pytest.mark.parametrize(
    ("wanted", "student", "teacher", "expected"),
    [
        (["uniform"], 6, 12, (1, 3, 5, 7, 9, 11)),
        (["uniform"], 4, 12, (2, 5, 8, 11)),
        (["uniform"], 3, 3, (0, 1, 2)),
        (["first"], 2, 5, (0, 1)),
        (["2", "0", "5"], 3, 5, (1, None, 4)),
    ],
)
def test_block_maps(wanted, student, teacher, expected):
    assert block_map(wanted, student, teacher) == expected


@pytest.mark.parametrize(
    ("wanted", "student", "teacher", "message"),
    [
        (["uniform"], 5, 12, "12 blocks can't be divided evenly among the student's 5; .* --block_map 2 5 7 10 12"),
        (["first"], 6, 4, "the student has 6 blocks, the teacher only 4"),
        (["1", "2"], 3, 4, "names 2 blocks, the student has 3"),
        (["1", "9", "2"], 3, 4, "names block 9, the teacher has 4"),
        (["last"], 3, 6, "must be uniform, first or numbers of blocks, not 'last'"),
    ],
)
def test_bad_block_maps(wanted, student, teacher, message):
    with pytest.raises(InputError, match=message):
        block_map(wanted, student, teacher)
