"""Features of questions equal those of the original, window by window."""

import json

import numpy as np
import pytest

from bertkernels.data.question_features import WindowSizes, has_most_context, question_features
from bertkernels.data.squad import read_squad
from bertkernels.data.tokenizer import read_vocabulary, tokenizer_from_vocabulary


def load(recording, training):
    """The recorded features, and ours of the same questions."""
    recorded = json.loads(recording.read_text(encoding="utf-8"))
    version = 1 if "squadv1" in recording.stem else 2
    questions = read_squad(recording.with_name(f"squad_v{version}_dev.json"), unanswerable=version == 2)
    vocabulary = read_vocabulary(recording.parents[1] / "electra" / "vocab.txt")
    tokenizer = tokenizer_from_vocabulary(vocabulary, recorded["config"].get("do_lower_case", True))
    config = recorded["config"]
    sizes = WindowSizes(config["max_seq_length"], config["max_query_length"], config["doc_stride"])
    return recorded, questions, question_features(questions, tokenizer, sizes, training), tokenizer


def inputs(feature, length):
    ids, types = feature["input_ids"], feature["token_type_ids"]
    padding = [0] * (length - len(ids))
    return {
        "input_ids": ids + padding,
        "input_mask": [1] * len(ids) + padding,
        "segment_ids": types + padding,
    }


@pytest.mark.recordings("metrics/qa_train_features_*.json")
def test_training_features(recording):
    recorded, _, features, _ = load(recording, training=True)
    task = recording.stem.removeprefix("qa_train_features_")
    assert len(features) == len(recorded["features"])
    for ours, theirs in zip(features, recorded["features"], strict=True):
        assert inputs(ours, recorded["config"]["max_seq_length"]).items() <= theirs.items()
        for name in ("start_positions", "end_positions", "is_impossible"):
            assert ours[name] == theirs[f"{task}_{name}"]


@pytest.mark.recordings("metrics/qa_pipeline_*.json")
def test_evaluation_features(recording):
    recorded, questions, features, tokenizer = load(recording, training=False)
    task = recorded["task"]
    assert len(features) == len(recorded["features"])
    by_question = {}
    for ours in features:
        by_question.setdefault(ours["question"], []).append(ours)
    for ours, theirs in zip(features, recorded["features"], strict=True):
        assert inputs(ours, recorded["config"]["max_seq_length"]).items() <= theirs.items()
        assert tokenizer.convert_ids_to_tokens(ours["input_ids"]) == theirs[f"{task}_tokens"]
        number, windows = ours["question"], by_question[ours["question"]]
        example = recorded["examples"][number]
        question = questions.questions[number]
        assert (example["qas_id"], example["question_text"]) == (question.id, question.text)
        window = [other["text_token"] for other in windows].index(ours["text_token"])
        most = has_most_context(window, [w["text_token"] for w in windows], [len(w["begins"]) for w in windows])
        position = ours["text_position"]
        wanted = theirs[f"{task}_token_is_max_context"]
        assert {str(position + i): bool(flag) for i, flag in enumerate(most)} == wanted
        # characters name the original's words
        words = np.cumsum([0, *(len(word) + 1 for word in example["doc_tokens"])])
        assert " ".join(questions.contexts[question.context].split()) == " ".join(example["doc_tokens"])
        found = np.searchsorted(words, ours["begins"], side="right") - 1
        wanted = theirs[f"{task}_token_to_orig_map"]
        assert {str(position + i): int(word) for i, word in enumerate(found)} == wanted
