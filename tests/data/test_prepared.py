"""Prepared folders: the same whoever makes them and wherever they were stopped, never stale, never half-done."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import datasets
import pytest
from transformers import AutoTokenizer

from bertkernels.data.packing import PACKINGS, Packing
from bertkernels.data.prepared import build as build_module
from bertkernels.data.prepared import workers as workers_module
from bertkernels.data.prepared.build import prepare
from bertkernels.data.prepared.folder import FinishedPieces, open_prepared
from bertkernels.data.prepared.summary import summary_lines
from bertkernels.data.text_source import file_source
from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.errors import InputError, OutputError

WORDS = [f"word{number}" for number in range(200)]
PIECE = 4000


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_from_vocabulary({token: number for number, token in enumerate([*SPECIAL_TOKENS, *WORDS])})


def write_text(path, documents, seed=0):
    generator = random.Random(seed)
    with open(path, "w") as file:
        for _ in range(documents):
            for _ in range(generator.randint(1, 8)):
                file.write(" ".join(generator.choices(WORDS, k=generator.randint(1, 15))) + "\n")
            file.write("\n")
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt", 300)


def make(text, tokenizer, folder, packing="electra", **options):
    source = file_source([str(text)], piece_bytes=PIECE)
    return prepare(source, tokenizer, Packing(packing, 32, dupe_factor=2), folder, **options)


def content(folder):
    """Every file's bytes, by its name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("packing", PACKINGS)
def test_examples_do_not_depend_on_the_number_of_workers(text, tokenizer, tmp_path, packing):
    options = {"validation_share": 0.1, "seed": 3, "packing": packing, "shuffle": packing == "electra"}
    one = make(text, tokenizer, tmp_path / "one", num_workers=1, **options)
    make(text, tokenizer, tmp_path / "three", num_workers=3, **options)
    assert content(tmp_path / "one") == content(tmp_path / "three")
    assert one.summary["pieces"] > 5 and not list(tmp_path.glob("*/.writing-*"))
    other = make(text, tokenizer, tmp_path / "other", **options | {"seed": 4})
    assert one.train["input_ids"][:] != other.train["input_ids"][:] or packing.endswith("sentences")
    assert one.validation["input_ids"][:] != other.validation["input_ids"][:]


def test_a_folder_is_a_data_set_and_says_what_became_of_the_text(text, tokenizer, tmp_path):
    made = make(text, tokenizer, tmp_path / "made", validation_share=0.1)
    loaded = datasets.load_from_disk(str(tmp_path / "made"))
    assert set(loaded) == {"train", "validation"}
    lines = text.read_text().splitlines()
    assert sum(split["documents"] for split in made.summary["splits"].values()) == lines.count("") == 300
    assert sum(split["sentences"] for split in made.summary["splits"].values()) == sum(map(bool, lines))
    for name, total in made.summary["splits"].items():
        lengths = [len(ids) for ids in loaded[name]["input_ids"]]
        assert total["examples"] == len(lengths) and total["example_tokens"] == sum(lengths)
        specials = sum(
            ids.count(tokenizer.cls_token_id) + ids.count(tokenizer.sep_token_id) for ids in loaded[name]["input_ids"]
        )
        assert total["tokens"] - total["dropped"]["tokens cut off"] == sum(lengths) - specials
        assert total["padding_share"] == pytest.approx(1 - sum(lengths) / (32 * len(lengths)), abs=1e-4)
    assert 10 < made.summary["splits"]["validation"]["documents"] < 60
    assert "padding at 32" in summary_lines(made.summary)[0] and "tokens cut off" in summary_lines(made.summary)[1]
    assert AutoTokenizer.from_pretrained(tmp_path / "made").get_vocab() == tokenizer.get_vocab()
    (described,) = made.manifest["inputs"]
    assert described["path"] == str(text) and described["bytes"] == text.stat().st_size


def test_held_out_documents_are_in_no_training_example(tmp_path, tokenizer):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{word}\n{word} {word}\n\n" for word in WORDS))
    for packing in PACKINGS:
        made = make(path, tokenizer, tmp_path / packing, packing, validation_share=0.2)
        words = [{token for ids in split["input_ids"] for token in ids} for split in (made.train, made.validation)]
        assert words[0] & words[1] <= set(tokenizer.all_special_ids)
        assert made.summary["splits"]["validation"]["documents"] > 10


def test_shuffled_examples_are_the_same_in_another_order(text, tokenizer, tmp_path):
    plain = make(text, tokenizer, tmp_path / "plain").train["input_ids"][:]
    mixed = make(text, tokenizer, tmp_path / "mixed", shuffle=True).train["input_ids"][:]
    assert plain != mixed and sorted(plain) == sorted(mixed)


def test_dropped_text_is_counted(tmp_path, tokenizer):
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "word1 word2"}\n{"text": ""}\n{"text": "\\u200b\\nword3"}\n')
    made = make(path, tokenizer, tmp_path / "made")
    assert made.summary["splits"]["train"]["dropped"] == {"documents without text": 1, "sentences without tokens": 1}
    assert made.summary["splits"]["train"]["documents"] == 2


_SCRIPT = """
import json, sys
from pathlib import Path
from bertkernels.data.packing import Packing
from bertkernels.data.prepared.build import prepare
from bertkernels.data.text_source import file_source
from bertkernels.data.tokenizer import read_vocabulary, tokenizer_from_vocabulary

text, vocabulary, folder = sys.argv[1:]
tokenizer = tokenizer_from_vocabulary(read_vocabulary(vocabulary))
prepare(file_source([text], piece_bytes=20_000), tokenizer, Packing("bert_pairs", 32, dupe_factor=20), Path(folder),
        num_workers=2)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    text = write_text(tmp_path / "text.txt", 2500)
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL_TOKENS, *WORDS]))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _SCRIPT, str(text), str(vocabulary)]

    def start(folder):
        return subprocess.Popen(
            [*command, str(folder)], env=environment, stderr=subprocess.PIPE, start_new_session=True
        )

    folder = tmp_path / "killed"
    process = start(folder)
    deadline = time.monotonic() + 60
    while not (folder / "pieces.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)  # its workers find their input closed
    process.communicate()
    done = (folder / "pieces.jsonl").read_text().splitlines()
    assert not json.loads((folder / "manifest.json").read_text())["complete"]
    with pytest.raises(InputError, match="is not finished"):
        open_prepared(folder)
    with open(folder / "pieces.jsonl", "a") as file:
        file.write('\n{"piece": 99')  # as a run leaves it that is cut short while it writes
    kept = {path: path.stat().st_mtime_ns for path in (folder / "train").iterdir()}
    again, whole = start(folder), start(tmp_path / "whole")
    for running in (again, whole):
        assert running.wait(timeout=120) == 0, running.stderr.read()[-2000:]
    assert content(folder) == content(tmp_path / "whole")
    pieces = json.loads((folder / "manifest.json").read_text())["pieces"]
    assert 0 < len(list(filter(None, done))) < pieces
    for number in [json.loads(line)["piece"] for line in done if line]:
        path = folder / "train" / f"piece-{number:06d}.arrow"
        assert path.stat().st_mtime_ns == kept[path], "finished pieces are kept"


def test_a_complete_folder_is_opened_and_not_made_again(text, tokenizer, tmp_path, monkeypatch):
    first = make(text, tokenizer, tmp_path / "made")
    monkeypatch.setattr(build_module, "prepare_pieces", None)
    assert make(text, tokenizer, tmp_path / "made").train["input_ids"][:] == first.train["input_ids"][:]


def test_a_changed_option_never_reuses_stale_data(text, tokenizer, tmp_path):
    folder = tmp_path / "made"
    make(text, tokenizer, folder)
    before = content(folder)
    changed = write_text(tmp_path / "changed.txt", 299)
    other = tokenizer_from_vocabulary(tokenizer.get_vocab(), do_lower_case=False)
    for arguments, options in (
        ((text, tokenizer), {"packing": "convbert"}),
        ((text, tokenizer), {"seed": 1}),
        ((text, tokenizer), {"validation_share": 0.1}),
        ((text, tokenizer), {"shuffle": True}),
        ((text, other), {}),
        ((changed, tokenizer), {}),
    ):
        with pytest.raises(InputError, match="holds examples of other text or options.*--overwrite_output_dir"):
            make(*arguments, folder, **options)
    assert content(folder) == before
    (folder / "mine.txt").write_text("keep this")
    new = make(changed, tokenizer, folder, overwrite=True)
    fresh = make(changed, tokenizer, tmp_path / "fresh")
    assert new.train["input_ids"][:] == fresh.train["input_ids"][:]
    assert (folder / "mine.txt").read_text() == "keep this"


def test_options_that_a_packing_does_not_read_change_nothing(text, tokenizer, tmp_path):
    source = file_source([str(text)])
    prepare(source, tokenizer, Packing("electra", 32, dupe_factor=5), tmp_path / "made")
    prepare(source, tokenizer, Packing("electra", 32, dupe_factor=7), tmp_path / "made")


def test_foreign_folders_are_left_alone(text, tokenizer, tmp_path):
    (tmp_path / "mine.txt").write_text("keep this")
    with pytest.raises(InputError, match="is not empty"):
        make(text, tokenizer, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        make(text, tokenizer, tmp_path / "mine.txt")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="manifest.json: not a manifest"):
        make(text, tokenizer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "mine.txt"]


def test_a_lost_shard_is_made_again_or_noticed(text, tokenizer, tmp_path):
    folder = tmp_path / "made"
    make(text, tokenizer, folder)
    before = content(folder)
    shard = folder / "train" / "piece-000001.arrow"
    shard.unlink()
    with pytest.raises(InputError, match="is damaged"):
        open_prepared(folder)
    assert 1 not in FinishedPieces(folder).counts
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"complete": False}))
    make(text, tokenizer, folder)
    assert content(folder) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_text_is_named_and_what_is_done_stays(tmp_path, tokenizer, workers):
    path = write_text(tmp_path / "text.txt", 300)
    line = len(path.read_bytes().splitlines()) + 1
    with open(path, "ab") as file:
        file.write(b"\xff\n")
    with pytest.raises(InputError, match=f"text.txt, line {line}: not UTF-8"):
        make(path, tokenizer, tmp_path / "made", num_workers=workers)
    assert not list((tmp_path / "made").glob(".writing-*"))
    assert (tmp_path / "made" / "pieces.jsonl").is_file()


def test_no_text_leaves_no_examples(tmp_path, tokenizer):
    path = tmp_path / "text.txt"
    path.write_text("\n \n")
    with pytest.raises(InputError, match="text.txt is empty"):
        make(path, tokenizer, tmp_path / "made")
    assert {path.name for path in (tmp_path / "made").iterdir()} <= {".lock", "tokenizer.json", "tokenizer_config.json"}
    path.write_text("word1 word2\n")
    with pytest.raises(InputError, match="none of its 1 documents was drawn for validation at a share of 0.01"):
        make(path, tokenizer, tmp_path / "other", validation_share=0.01)


def test_a_full_disk_is_one_sentence_and_loses_nothing(text, tokenizer, tmp_path, monkeypatch):
    started = []

    def start(*arguments):
        started.append(start_worker(*arguments))
        return started[-1]

    def fill_up(*arguments):
        for number, counts in enumerate(prepare_pieces(*arguments)):
            if number == 1:
                resource.prlimit(started[0].pid, resource.RLIMIT_FSIZE, (1000, 1000))
            yield counts

    start_worker, prepare_pieces = workers_module._start, build_module.prepare_pieces
    with monkeypatch.context() as patched:
        patched.setattr(workers_module, "_start", start)
        patched.setattr(build_module, "prepare_pieces", fill_up)
        with pytest.raises(OutputError, match="File too large.*run the same command again"):
            make(text, tokenizer, tmp_path / "made")
    assert len(FinishedPieces(tmp_path / "made").counts) >= 2
    make(text, tokenizer, tmp_path / "made")
    make(text, tokenizer, tmp_path / "whole")
    assert content(tmp_path / "made") == content(tmp_path / "whole")
