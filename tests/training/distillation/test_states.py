import pytest
import torch

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.training.distillation.comparison import LossSettings, compare
from bertkernels.training.distillation.model import DistillationModel
from bertkernels.training.distillation.projection import Projection
from bertkernels.training.distillation.states import CountedTokens, block_heads, capture_states

_SIZES = {"vocab_size": 50, "num_attention_heads": 4, "max_position_embeddings": 16, "initializer_range": 0.2}
_LENGTHS = [7, 3, 1]


def _config(plan, width, **changes):
    return EncoderConfig(**_SIZES | {"plan": plan, "hidden_size": width, "intermediate_size": 2 * width} | changes)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (len(_LENGTHS), max(_LENGTHS)), generator=generator)
    mask = (torch.arange(max(_LENGTHS)) < torch.tensor(_LENGTHS)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("plan", ["2*(attention ffn)", "2*(mixed ffn)", "(attention dynamic_conv) (ffn attention)"])
def test_packed_states_are_those_of_single_sequences(plan, batch):
    torch.manual_seed(0)
    model = EncoderModel(_config(plan, 16)).eval()
    with torch.no_grad(), capture_states(model, (0, 1, 2), (0, 1)) as states:
        model(**batch)
    assert states.layout.cu_seqlens is not None
    counted = CountedTokens.of(batch["attention_mask"])
    places = torch.tensor([0, *_LENGTHS]).cumsum(0)
    for row, length in enumerate(_LENGTHS):
        alone = batch["input_ids"][row : row + 1, :length]
        with torch.no_grad(), capture_states(model, (0, 1, 2), (0, 1)) as single:
            output = model(alone, output_hidden_states=True, output_attentions=True)
        whole = CountedTokens.of(torch.ones_like(alone))
        for number in range(3):
            expected = output.hidden_states[number][0]
            torch.testing.assert_close(single.states(number, whole), expected)
            found = states.states(number, counted)[places[row] : places[row + 1]]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for block in range(2):
            maps = output.attentions[block]
            scores = single.scores(block, whole)
            torch.testing.assert_close(scores.softmax(-1), maps, rtol=1e-4, atol=1e-5)
            found = states.scores(block, counted)[row : row + 1, :, :length, :length]
            torch.testing.assert_close(found, scores, rtol=1e-4, atol=1e-4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_heads_of_blocks():
    model = EncoderModel(_config("(attention ffn) (mixed ffn) dynamic_conv (attention attention[heads=2])", 16))
    assert block_heads(model) == [4, 2, 0, 2]


def _pair(student_padding="exact", teacher_padding="exact", dtype=torch.float32, **settings):
    torch.manual_seed(0)
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    student = EncoderForSequenceClassification(_config("2*(attention ffn)", 8, padding=student_padding, **dropout))
    teacher = EncoderForSequenceClassification(_config("4*(attention ffn)", 16, padding=teacher_padding))
    settings = LossSettings(**settings)
    comparison = compare(student.model, teacher.model, (1, 3), settings)
    projection = Projection(8, 16, comparison.projected, shared=True)
    return DistillationModel(student, teacher.to(dtype), comparison, settings, projection).train()


def _losses_and_gradients(model, batch):
    output = model(**batch)
    output.loss.backward()
    gradients = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}
    return output, gradients


@pytest.mark.parametrize(("student", "teacher"), [("exact", "reference"), ("reference", "exact")])
def test_the_form_that_encoders_run_in_makes_no_difference(student, teacher, batch):
    expected, gradients = _losses_and_gradients(_pair(), batch)
    found, others = _losses_and_gradients(_pair(student, teacher), batch)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-5)


def test_padding_changes_nothing(batch):
    expected = _pair()(**batch)
    wider = {name: torch.nn.functional.pad(x, (2, 4), value=0) for name, x in batch.items()}
    found = _pair()(**wider)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_every_trained_parameter_gets_a_gradient_and_the_teacher_none(batch):
    model = _pair(label_weight=0.5)
    _, gradients = _losses_and_gradients(model, batch | {"labels": torch.tensor([0, 1, 0])})
    names = {name for name, _ in model.named_parameters()}
    assert gradients.keys() == names and not any("teacher" in name for name in model.state_dict())
    assert all(x.grad is None for x in model.teacher.parameters())
    assert not model.teacher.training


def test_checkpointed_gradients_are_the_same(batch):
    expected, gradients = _losses_and_gradients(_pair(), batch)
    model = _pair()
    model.student.gradient_checkpointing_enable({"use_reentrant": False})
    found, others = _losses_and_gradients(model, batch)
    torch.testing.assert_close(found.loss, expected.loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient)


def test_a_teacher_in_bfloat16_says_about_the_same(batch):
    expected = _pair()(**batch)
    model = _pair(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**batch)
    for name in expected:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected[name], rtol=0.05, atol=0.02)
    assert all(x.dtype == torch.bfloat16 for x in model.teacher.parameters())


def test_evaluation_is_the_student(batch):
    model = _pair().eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, model.student(**batch).logits)
        assert model(**batch, distil=True).hidden_loss > 0
