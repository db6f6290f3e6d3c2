import numpy as np
import pytest

from bertkernels.data.question_features import WindowSizes, question_features
from bertkernels.data.questions import Question, QuestionSet
from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.training.original_answer_text import find_answer
from bertkernels.training.question_answers import (
    AnswerSettings,
    SpanOutputs,
    answer_questions,
    nbest_lists,
    predictions,
)

TEXT = "Cafés in  Zürich (x1) sell x2"
TOKENS = [*SPECIAL_TOKENS, *"which cafe ##s in zurich ( ) sell x ##1 ##2 ?".split()]


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_from_vocabulary({token: number for number, token in enumerate(TOKENS)})


@pytest.fixture(scope="module")
def asked():
    return QuestionSet([TEXT], [Question("q", "which ?", 0, (), None, False, "here")])


@pytest.fixture(scope="module")
def features(asked, tokenizer):
    found = question_features(asked, tokenizer, WindowSizes(20, 8), training=False)
    assert tokenizer.convert_ids_to_tokens(found[0]["input_ids"]) == (
        "[CLS] which ? [SEP] cafe ##s in zurich ( x ##1 ) sell x ##2 [SEP]".split()
    )
    return found


def plain(starts, ends):
    """Outputs of independent ends, [1, 16], from logits by position; 0 elsewhere."""
    logits = np.zeros((2, 1, 16), np.float32)
    for row, given in enumerate((starts, ends)):
        for place, logit in given.items():
            logits[row, 0, place] = logit
    return SpanOutputs(*logits)


def test_answers_are_cut_out_of_the_text(asked, features, tokenizer):
    outputs = plain({7: 9.0, 4: 7.0}, {10: 9.0, 5: 8.5})
    (answer,) = answer_questions(asked, features, outputs, tokenizer, AnswerSettings(n_best_size=3))
    assert [candidate.text for candidate in answer.candidates] == ["Zürich (x1", "Cafés in  Zürich (x1", "Cafés"]
    assert answer.best == "Zürich (x1"
    assert [candidate.start_logit + candidate.end_logit for candidate in answer.candidates] == [18, 16, 15.5]
    assert sum(candidate.probability for candidate in answer.candidates) == pytest.approx(1)
    assert answer.null_odds == -18
    assert nbest_lists([answer])["q"][0]["text"] == "Zürich (x1"


def test_what_an_answer_may_not_be(asked, features, tokenizer):
    # the likeliest: in the question, at [CLS], at the last [SEP], ends before it starts, or is too long
    outputs = plain({1: 50.0, 0: 60.0, 12: 9.0, 4: 8.0}, {2: 50.0, 0: 60.0, 15: 70.0, 9: 9.0, 13: 5.0})
    settings = AnswerSettings(max_answer_length=3)
    (answer,) = answer_questions(asked, features, outputs, tokenizer, settings)
    assert answer.best == "sell x"
    assert answer.null_odds == 60 + 60 - 14
    assert predictions([answer], 0.0) == {"q": ""} and predictions([answer], None) == {"q": "sell x"}


def test_no_candidate(asked, features, tokenizer):
    outputs = plain({14: 9.0}, {4: 9.0})
    for original, text in ((False, ""), (True, "empty")):
        settings = AnswerSettings(n_best_size=1, original=original)
        (answer,) = answer_questions(asked, features, outputs, tokenizer, settings)
        assert answer.best == text and answer.candidates[0].probability == 1


def test_the_joint_heads_beams(asked, features, tokenizer):
    outputs = SpanOutputs(
        np.zeros((1, 16)),
        np.zeros((1, 16)),
        start_top_log_probs=np.array([[-0.1, -2.0]]),
        start_top_index=np.array([[0, 9]]),
        end_top_log_probs=np.array([[[-0.1, -0.2], [-0.3, -1.0]]]),
        end_top_index=np.array([[[9, 10], [10, -100]]]),  # -100: a batch of shorter features had fewer
        no_answer_logits=np.array([1.5]),
    )
    (answer,) = answer_questions(asked, features, outputs, tokenizer, AnswerSettings())
    assert [candidate.text for candidate in answer.candidates] == ["x1"]
    assert answer.null_odds == 1.5


def test_windows_of_one_question_are_one_contest(asked, tokenizer):
    features = question_features(asked, tokenizer, WindowSizes(12, 3, 4), training=False)
    assert features["text_token"][:] == [0, 4]
    logits = np.zeros((2, 2, 12), np.float32)
    logits[:, 0, 10] = 5.0  # the first window's last token, which has more context in the second
    logits[:, 1, 10] = 4.0
    (answer,) = answer_questions(asked, features, SpanOutputs(*logits), tokenizer, AnswerSettings())
    assert answer.best == "2"
    assert answer.null_odds == -8


def test_the_originals_text_where_pieces_spell_another(tokenizer):
    assert find_answer("zurich", "Zürich (x1)", tokenizer) == "Zürich"
    assert find_answer("zur ich", "Zürich (x1)", tokenizer) == "Zürich (x1)"
    assert find_answer("", "Zürich", tokenizer) == "Zürich"


@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_outputs_by_their_number(count):
    found = SpanOutputs.of(tuple(np.full(1, number) for number in range(count)))
    assert (found.no_answer_logits is None) == (count in (2, 6))
    assert (found.start_top_index is None) == (count < 6)
    if found.no_answer_logits is not None:
        assert found.no_answer_logits == count - 1


def test_outputs_of_another_kind():
    with pytest.raises(ValueError, match="2, 3, 6 or 7 arrays, got 4"):
        SpanOutputs.of((np.zeros(1),) * 4)
