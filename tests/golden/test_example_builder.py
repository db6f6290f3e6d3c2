"""Packing equals the recordings of the original example builders, to the last draw of the random stream."""

import json
import random

import pytest

from bertkernels.data.example_builder import ExampleBuilder
from bertkernels.data.sentence_encoder import SentenceEncoder
from bertkernels.data.tokenizer import read_vocabulary, tokenizer_from_vocabulary

# By the recorded program's name in small letters; LV-BERT's builder is ELECTRA's.
_PACKING_OF = {"electra": "electra", "lvbert": "electra", "convbert": "convbert"}


def _recordings(golden_dir):
    paths = sorted(golden_dir.rglob("example_builder*.json"))
    if not paths:
        pytest.skip(f"no example_builder recordings under {golden_dir}")
    return paths


def _replay(recording, path, run, generator):
    packing = _PACKING_OF["".join(filter(str.isalpha, recording["repo"])).lower()]
    folder = path.parent
    tokenizer = tokenizer_from_vocabulary(read_vocabulary(folder / recording["vocab"]), recording["do_lower_case"])
    builder = ExampleBuilder(run["max_length"], tokenizer.cls_token_id, tokenizer.sep_token_id, generator, packing)
    lines = (folder / recording["corpus"]).read_text(encoding="utf-8").split("\n")
    encoder = SentenceEncoder(tokenizer.backend_tokenizer.to_str())
    ids = dict(zip(lines, encoder([line.strip() for line in lines]), strict=True))
    for _ in range(run["repeats"]):
        for line in [*lines, ""]:
            example = builder.add(ids[line]) if line.strip() else builder.end_document()
            if example is not None:
                yield builder, example


def test_examples_equal_the_recorded_ones(golden_dir):
    for path in _recordings(golden_dir):
        recording = json.loads(path.read_text(encoding="utf-8"))
        for run in recording["runs"]:
            generator = random.Random(run["seed"])
            examples = iter(run["examples"])
            for builder, example in _replay(recording, path, run, generator):
                expected = next(examples)
                length = len(example.input_ids)
                padding = [0] * (run["max_length"] - length)
                assert example.input_ids + padding == expected["input_ids"]
                assert [1] * length + padding == expected["input_mask"]
                types = [0] * example.first_length + [1] * (length - example.first_length)
                assert types + padding == expected["segment_ids"]
                assert builder.target_length == expected["next_target_length"]
            assert next(examples, None) is None
            assert generator.random() == run["rng_state_check"]
