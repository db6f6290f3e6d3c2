import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForQuestionAnswering

import bertkernels.models.auto  # noqa: F401
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.question_answering import EncoderForQuestionAnswering, QuestionAnsweringOutput

LENGTHS = (16, 11, 6)
TEXT_BEGINS = 4

FORMS = {
    "plain": {},
    "plain and classifier": {"answerable_classifier": True},
    "joint": {"qa_head": "joint"},
    "joint and classifier": {"qa_head": "joint", "answerable_classifier": True},
    "joint and classifier of [CLS]": {
        "qa_head": "joint",
        "answerable_classifier": True,
        "answerable_uses_start_logits": False,
    },
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def build(**fields):
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=50, hidden_size=32, num_attention_heads=4, intermediate_size=48, max_position_embeddings=16,
        initializer_range=0.2, plan="mixed ffn", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        **{"beam_size": 3, **fields},
    )  # fmt: skip
    return EncoderForQuestionAnswering(config).eval()


def batch():
    """Three sequences of a question and a text: ids, mask, types [3, 16]."""
    ids = torch.randint(1, 50, (3, 16), generator=torch.Generator().manual_seed(1))
    places = torch.arange(16)
    mask = (places < torch.tensor(LENGTHS)[:, None]).long()
    return ids * mask, mask, (places >= TEXT_BEGINS).long() * mask


def labels():
    return {
        "start_positions": torch.tensor([5, 0, 4]),
        "end_positions": torch.tensor([9, 0, 5]),
        "is_impossible": torch.tensor([0, 1, 0]),
    }


def test_padding_changes_nothing(form):
    model = build(**form)
    ids, mask, types = batch()
    together = model(ids, mask, types)
    for row, length in enumerate(LENGTHS):
        alone = model(ids[row : row + 1, :length], None, types[row : row + 1, :length])
        for name, value in alone.items():
            found = together[name][row]
            found = found[..., :length] if name in ("start_logits", "end_logits") else found
            torch.testing.assert_close(found, value[0], atol=1e-5, rtol=1e-5)


def test_no_answer_begins_in_question_or_padding(form):
    output = build(**form)(*batch())
    for logits in (output.start_logits, output.end_logits):
        outside = torch.ones(3, 16, dtype=torch.bool)
        outside[:, 0] = False
        for row, length in enumerate(LENGTHS):
            outside[row, TEXT_BEGINS:length] = False
        assert (logits[outside] < -900).all() and (logits[~outside] > -100).all()


def test_beams_are_the_likeliest_pairs():
    model = build(qa_head="joint")
    ids, mask, types = batch()
    output = model(ids, mask, types)
    x = model.model(ids, mask, types).last_hidden_state
    excluded = torch.where(output.start_logits < -900, 1000.0, 0.0)
    for row in range(3):
        starts = output.start_logits[row].log_softmax(-1).sort(descending=True)
        assert output.start_top_index[row].tolist() == starts.indices[:3].tolist()
        for beam, start in enumerate(starts.indices[:3].tolist()):
            pairs = torch.cat([x[row, start].expand(16, -1), x[row]], -1)  # [T, 2 C]: the formula as it is written
            hidden = functional.gelu(model.span.end_dense(pairs))
            ends = (model.span.end_output(hidden).squeeze(-1) - excluded[row]).log_softmax(-1)
            best = ends.sort(descending=True)
            assert output.end_top_index[row, beam].tolist() == best.indices[:3].tolist()
            torch.testing.assert_close(output.end_top_log_probs[row, beam], best.values[:3], atol=1e-5, rtol=1e-5)


def test_loss(form):
    model = build(**form)
    found = model(*batch(), **labels())
    starts = functional.cross_entropy(found.start_logits, labels()["start_positions"])
    ends = functional.cross_entropy(found.end_logits, labels()["end_positions"])
    wanted = (starts + ends) / 2
    if model.config.answerable_classifier:
        truth = labels()["is_impossible"].float()
        wanted = wanted + 0.5 * functional.binary_cross_entropy_with_logits(found.no_answer_logits, truth)
    torch.testing.assert_close(found.loss, wanted)
    # in training the end sees the true start as well, and nothing else is computed
    training = model.train()(*batch(), **labels())
    torch.testing.assert_close(training.loss, wanted)
    assert training.start_top_index is None


def test_every_parameter_gets_a_gradient(form):
    model = build(**form).train()
    model(*batch(), **labels()).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_it_round_trips(form, tmp_path):
    model = build(**form)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    for ours, theirs in zip(model(*batch()).values(), loaded(*batch()).values(), strict=True):
        assert torch.equal(ours, theirs)


def test_outputs_have_one_order(form):
    declared = list(QuestionAnsweringOutput.__dataclass_fields__)
    found = list(build(**form)(*batch(), **labels()))
    assert found == [name for name in declared if name in found]
    assert ("start_top_index" in found) == ("qa_head" in form)
    assert ("no_answer_logits" in found) == ("answerable_classifier" in form)


def test_short_sequences_have_as_many_beams_as_tokens():
    model = build(qa_head="joint", beam_size=20)
    output = model(torch.randint(1, 50, (2, 5)))
    assert output.start_top_index.shape == (2, 5) and output.end_top_index.shape == (2, 5, 5)


def test_bf16_autocast_keeps_logits_in_fp32(form):
    model = build(**form)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*batch(), **labels())
    assert found.start_logits.dtype == found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss, model(*batch(), **labels()).loss, atol=0.05, rtol=0.05)


def test_labels_that_do_not_come_together():
    with pytest.raises(ValueError, match="go together"):
        build()(*batch(), start_positions=torch.zeros(3, dtype=torch.long))
    given = {name: value for name, value in labels().items() if name != "is_impossible"}
    assert build()(*batch(), **given).loss.isfinite()
    with pytest.raises(ValueError, match="needs is_impossible"):
        build(answerable_classifier=True)(*batch(), **given)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"qa_head": "beam"}, "qa_head must be one of plain, joint"),
        ({"beam_size": 0}, "beam_size must be a whole number from 1"),
        ({"answerable_weight": -1}, "answerable_weight must be a number from 0"),
    ],
)
def test_bad_configurations(fields, message):
    with pytest.raises(InputError, match=message):
        EncoderConfig(**fields)
