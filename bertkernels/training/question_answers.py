"""From the logits of windows to answers: candidates, n-best lists, scores of there being no answer."""

from dataclasses import dataclass, fields

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from bertkernels.data.question_features import has_most_context
from bertkernels.data.questions import QuestionSet
from bertkernels.training.original_answer_text import find_answer, piece_text, words_around


@dataclass(frozen=True)
class SpanOutputs:
    """A question-answering model's outputs for all windows; N windows, T positions, k beams.

    start_logits, end_logits: [N, T]. The joint head's: start_top_log_probs, start_top_index [N, k], end_top_log_probs,
    end_top_index [N, k, k]. The classifier's: no_answer_logits [N].
    """

    start_logits: np.ndarray
    end_logits: np.ndarray
    start_top_log_probs: np.ndarray | None = None
    start_top_index: np.ndarray | None = None
    end_top_log_probs: np.ndarray | None = None
    end_top_index: np.ndarray | None = None
    no_answer_logits: np.ndarray | None = None

    @classmethod
    def of(cls, predictions: tuple[np.ndarray, ...]) -> "SpanOutputs":
        """From a model's outputs in their order, where those it does not have are left out."""
        names = [field.name for field in fields(cls)]
        present = {2: names[:2], 3: [*names[:2], names[-1]], 6: names[:6], 7: names}
        if len(predictions) not in present:
            raise ValueError(f"outputs of question answering are 2, 3, 6 or 7 arrays, got {len(predictions)}")
        return cls(**dict(zip(present[len(predictions)], predictions, strict=True)))


@dataclass(frozen=True)
class AnswerSettings:
    """How answers are made of outputs.

    Attributes:
        n_best_size: answers to list, and starts and ends to combine of a head whose start and end are independent.
        max_answer_length: in tokens.
        original: as the original code does it, where that is worse: an answer's text is searched in its words
            (`original_answer_text`) and not cut out of the text, candidates are chosen before those outside the text
            are dropped, and an answer that does not exist is the word "empty" and not an empty text.
    """

    n_best_size: int = 20
    max_answer_length: int = 30
    original: bool = False


@dataclass(frozen=True)
class Candidate:
    """An answer: its text, the scores of its two ends, and its probability among those listed."""

    text: str
    start_logit: float
    end_logit: float
    probability: float


@dataclass(frozen=True)
class QuestionAnswers:
    """What a model says to one question.

    candidates: the best first, never empty. null_odds: the higher, the surer the model is that there is no answer: the
    classifier's logit, or else the score of the first token less that of the best answer; the lowest of all windows.
    """

    id: str
    candidates: list[Candidate]
    null_odds: float

    @property
    def best(self) -> str:
        return self.candidates[0].text


def answer_questions(
    questions: QuestionSet,
    features: datasets.Dataset,
    outputs: SpanOutputs,
    tokenizer: PreTrainedTokenizerBase,
    settings: AnswerSettings,
) -> list[QuestionAnswers]:
    """Answers to all questions, in their order.

    Args:
        features: `question_features` of these questions, for evaluation.
        outputs: of these features, in their order.
    """
    columns = ["input_ids", "question", "text_position", "text_token", "begins", "ends"]
    table = features.select_columns(columns).with_format("numpy")[:]
    windows: list[list[int]] = [[] for _ in questions.questions]
    for row, number in enumerate(table["question"]):
        windows[number].append(row)
    found = []
    for question, rows in zip(questions.questions, windows, strict=True):
        context = questions.contexts[question.context]
        begins = [int(table["text_token"][row]) for row in rows]
        lengths = [len(table["begins"][row]) for row in rows]
        spans = []
        for window, row in enumerate(rows):
            position = int(table["text_position"][row])
            most = has_most_context(window, begins, lengths)
            spans.append(_spans(outputs, row, position, most, settings))
        starts, ends, start_scores, end_scores, places = _joined(spans)
        candidates: dict[str, tuple[float, float]] = {}
        for best in np.argsort(-(start_scores + end_scores), kind="stable"):
            if len(candidates) == settings.n_best_size:
                break
            row = rows[places[best]]
            position = int(table["text_position"][row])
            begin = int(table["begins"][row][starts[best] - position])
            end = int(table["ends"][row][ends[best] - position])
            text = context[begin:end]
            if settings.original:
                ids = table["input_ids"][row][starts[best] : ends[best] + 1]
                pieces = piece_text(tokenizer.convert_ids_to_tokens(ids.tolist()))
                text = find_answer(pieces, words_around(context, begin, end), tokenizer)
            candidates.setdefault(text, (float(start_scores[best]), float(end_scores[best])))
        if not candidates:
            candidates["empty" if settings.original else ""] = (0.0, 0.0)
        listed = _with_probabilities(candidates)
        found.append(QuestionAnswers(question.id, listed, _null_odds(outputs, rows, listed[0])))
    return found


_Spans = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # starts, ends, their scores; [candidates] each


def _spans(outputs: SpanOutputs, row: int, position: int, most_context: np.ndarray, settings: AnswerSettings) -> _Spans:
    """The candidates of one window, whose text begins at `position`, start by start."""
    length = len(most_context)
    if outputs.start_top_index is not None:
        starts = outputs.start_top_index[row]  # [k]
        ends = outputs.end_top_index[row]  # [k, k]
        start_scores, end_scores = outputs.start_top_log_probs[row], outputs.end_top_log_probs[row]
    else:
        count = settings.n_best_size
        inside = slice(None) if settings.original else slice(position, position + length)
        starts, start_scores = _best(outputs.start_logits[row], inside, count)
        ends, end_scores = _best(outputs.end_logits[row], inside, count)
    starts, ends = np.broadcast_arrays(starts[:, None], ends)
    start_scores, end_scores = np.broadcast_arrays(start_scores[:, None], end_scores)
    first = starts - position  # among the window's tokens
    valid = (first >= 0) & (first < length) & (ends >= starts) & (ends < position + length)
    valid &= ends - starts < settings.max_answer_length
    valid[valid] = most_context[first[valid]]
    return starts[valid], ends[valid], start_scores[valid].astype(np.float64), end_scores[valid].astype(np.float64)


def _best(logits: np.ndarray, inside: slice, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the `count` largest logits in a part of them, and those logits; of equals the first."""
    places = np.arange(len(logits))[inside]
    chosen = places[np.argsort(-logits[inside], kind="stable")[:count]]
    return chosen, logits[chosen]


def _joined(spans: list[_Spans]) -> tuple[np.ndarray, ...]:
    """The candidates of all windows, and which window each is of."""
    places = np.repeat(np.arange(len(spans)), [len(starts) for starts, *_ in spans])
    return *(np.concatenate(part) for part in zip(*spans, strict=True)), places


def _with_probabilities(candidates: dict[str, tuple[float, float]]) -> list[Candidate]:
    scores = np.array([sum(pair) for pair in candidates.values()])
    exponents = np.exp(scores - scores.max())
    return [
        Candidate(text, start, end, float(probability))
        for (text, (start, end)), probability in zip(candidates.items(), exponents / exponents.sum(), strict=True)
    ]


def _null_odds(outputs: SpanOutputs, rows: list[int], best: Candidate) -> float:
    if outputs.no_answer_logits is not None:
        return float(outputs.no_answer_logits[rows].min())
    first = outputs.start_logits[rows, 0].astype(np.float64) + outputs.end_logits[rows, 0].astype(np.float64)
    return float(first.min() - best.start_logit - best.end_logit)


def predictions(answers: list[QuestionAnswers], threshold: float | None) -> dict[str, str]:
    """Each question's best answer, or an empty text where its null odds are above a threshold; None: never."""
    return {
        answer.id: "" if threshold is not None and answer.null_odds > threshold else answer.best for answer in answers
    }


def nbest_lists(answers: list[QuestionAnswers]) -> dict[str, list[dict[str, str | float]]]:
    """Each question's candidates as plain data."""
    return {answer.id: [vars(candidate) for candidate in answer.candidates] for answer in answers}
