"""The flags of question answering."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class QuestionArguments:
    """Where questions are, how texts are cut into windows, which head, and how answers are made of its outputs."""

    squad_dir: str | None = field(
        default=None,
        metadata={"help": "Folder with SQuAD's train-v1.1.json and dev-v1.1.json (squad_v2: -v2.0), or train.json ..."},
    )
    max_query_length: int = field(default=64, metadata={"help": "Tokens of a question; longer ones are cut."})
    doc_stride: int = field(default=128, metadata={"help": "Tokens from one window of a long text to the next."})
    qa_head: Literal["joint", "plain"] | None = field(
        default=None,
        metadata={
            "help": "joint: ELECTRA's, the end depends on the start (default for our encoders). plain: start and end "
            "on their own (Hugging Face's encoders have only that)."
        },
    )
    beam_size: int = field(default=20, metadata={"help": "Starts, and ends for each, that the joint head proposes."})
    answerable_classifier: bool | None = field(
        default=None,
        metadata={
            "help": "A classifier of unanswerable questions beside the head. Default: for squad_v2 with the joint "
            "head. (The original trains it for every task.)"
        },
    )
    answerable_weight: float = field(default=0.5, metadata={"help": "Weight of that classifier's loss."})
    n_best_size: int = field(default=20, metadata={"help": "Answers to a question to list."})
    max_answer_length: int = field(default=30, metadata={"help": "Tokens of an answer at most."})
    null_score_diff_threshold: float = field(
        default=0.0,
        metadata={
            "help": "squad_v2: no answer where the score of there being none is above this. ELECTRA's qa_na_threshold "
            "is -2.75; the evaluation also reports the best threshold there is."
        },
    )
    original_answers: bool = field(
        default=False,
        metadata={
            "help": "Make answers of outputs as the original code: their text is searched in words, not cut out."
        },
    )
