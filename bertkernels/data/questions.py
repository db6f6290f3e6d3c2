"""Questions on texts, as readers of all formats give them and features are made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AnswerSpan:
    """An answer where it stands in its text: the characters from `begin` on."""

    text: str
    begin: int


@dataclass(frozen=True)
class Question:
    """A question on one of a set's texts.

    Attributes:
        id: what predictions are told apart by.
        text: the question.
        context: the number of the text that is asked about.
        answers: the accepted answers; none where the question has none, or where they are unknown.
        span: the answer to learn.
        is_impossible: whether it is known to have no answer in the text.
        place: where it stands, for error messages.
    """

    id: str
    text: str
    context: int
    answers: tuple[str, ...]
    span: AnswerSpan | None
    is_impossible: bool
    place: str


@dataclass(frozen=True)
class QuestionSet:
    """Texts, and the questions on them."""

    contexts: list[str]
    questions: list[Question]

    def __len__(self) -> int:
        return len(self.questions)

    def part(self, begin: int, end: int) -> "QuestionSet":
        """The questions from number `begin` to before `end`."""
        return QuestionSet(self.contexts, self.questions[begin:end])
