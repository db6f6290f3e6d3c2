import numpy as np
import pytest

from bertkernels.data.question_features import WindowSizes, has_most_context, question_features, windows
from bertkernels.data.questions import AnswerSpan, Question, QuestionSet
from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.errors import InputError

WORDS = "who led rollo the normans in france japan ##ese cafe ( ) [ ] sep .".split()
TOKENS = [*SPECIAL_TOKENS, *WORDS]


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_from_vocabulary({token: number for number, token in enumerate(TOKENS)})


def asked(text, answer=None, question="who led", begin=None):
    span = None if answer is None else AnswerSpan(answer, text.index(answer) if begin is None else begin)
    answers = () if answer is None else (answer,)
    return QuestionSet([text], [Question("q", question, 0, answers, span, answer is None, "file, question q")])


def tokens(feature):
    return [TOKENS[number] for number in feature["input_ids"]]


def answer_tokens(feature):
    return tokens(feature)[feature["start_positions"] : feature["end_positions"] + 1]


def test_windows_overlap_and_cover_all():
    assert list(windows(10, 4, 2)) == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert list(windows(10, 4, 3)) == [(0, 4), (3, 7), (6, 10)]
    assert list(windows(10, 4, 99)) == [(0, 4), (4, 8), (8, 10)]  # a stride past the window leaves nothing out
    assert list(windows(4, 4, 2)) == [(0, 4)] and list(windows(0, 4, 2)) == [(0, 0)]


def test_each_token_has_most_context_in_one_window():
    begins, ends = zip(*windows(23, 8, 3), strict=True)
    lengths = [end - begin for begin, end in zip(begins, ends, strict=True)]
    count = np.zeros(23, int)
    for window, begin in enumerate(begins):
        count[begin : begin + lengths[window]] += has_most_context(window, list(begins), lengths)
    assert (count == 1).all()


def test_one_window(tokenizer):
    text = "the normans led  Rollo in France."
    (feature,) = question_features(asked(text, "Rollo in France"), tokenizer, WindowSizes(20, 8), training=False)
    assert tokens(feature) == "[CLS] who led [SEP] the normans led rollo in france . [SEP]".split()
    assert feature["token_type_ids"] == [0] * 4 + [1] * 8
    assert answer_tokens(feature) == ["rollo", "in", "france"]
    assert (feature["question"], feature["text_position"], feature["text_token"]) == (0, 4, 0)
    spelled = [text[begin:end] for begin, end in zip(feature["begins"], feature["ends"], strict=True)]
    assert spelled == "the normans led Rollo in France .".split()


def test_windows_without_the_whole_answer_point_at_the_first_token(tokenizer):
    text = "the normans led rollo in france"
    features = question_features(asked(text, "rollo in"), tokenizer, WindowSizes(9, 3, 1), training=True)
    assert set(features.column_names) == {
        "input_ids", "token_type_ids", "start_positions", "end_positions", "is_impossible"
    }  # fmt: skip
    found = [answer_tokens(feature) for feature in features]
    assert found == [["[CLS]"], ["rollo", "in"], ["rollo", "in"]]
    assert features["is_impossible"][:] == [0, 0, 0]


def test_answers_within_words(tokenizer):
    sizes = WindowSizes(20, 8)

    def found(text, answer, **where):
        (feature,) = question_features(asked(text, answer, **where), tokenizer, sizes, training=True)
        return answer_tokens(feature)

    assert found("rollo (france).", "france") == ["france"]
    assert found("japanese rollo", "japan") == ["japan"]
    assert found("japanese rollo", "japanes") == ["japan", "##ese"]  # no token ends there
    assert found("the the Café", "Café") == ["cafe"]
    assert found("rollo\u202frollo", "rollo", begin=6) == ["rollo"]


def test_unanswerable_questions(tokenizer):
    (feature,) = question_features(asked("the normans"), tokenizer, WindowSizes(20, 8), training=True)
    assert (feature["start_positions"], feature["end_positions"], feature["is_impossible"]) == (0, 0, 1)


def test_long_questions_are_cut_and_texts_are_no_special_tokens(tokenizer):
    questions = asked("the [SEP] rollo", "rollo", question="who led the normans in france")
    (feature,) = question_features(questions, tokenizer, WindowSizes(20, 3), training=True)
    assert tokens(feature) == "[CLS] who led the [SEP] the [ sep ] rollo [SEP]".split()


def test_answers_that_stand_elsewhere_are_left_out_of_training(tokenizer, caplog):
    questions = asked("the normans led rollo", "rollo", begin=0)
    sizes = WindowSizes(20, 8)
    assert len(question_features(questions, tokenizer, sizes, training=True)) == 0
    assert "1 of 1 questions" in caplog.text and "file, question q" in caplog.text
    (feature,) = question_features(questions, tokenizer, sizes, training=False)
    assert feature["start_positions"] == 0


def test_empty_texts(tokenizer):
    (feature,) = question_features(asked(" "), tokenizer, WindowSizes(20, 8), training=False)
    assert tokens(feature) == "[CLS] who led [SEP] [SEP]".split() and feature["begins"] == []


def test_no_room_for_the_text(tokenizer):
    with pytest.raises(InputError, match="a length of 12 leaves no room .* up to 9 tokens"):
        question_features(asked("the"), tokenizer, WindowSizes(12, 9), training=True)
