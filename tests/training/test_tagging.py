"""Fine-tuning on tagged words, from files to predictions."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    ConvBertConfig,
    ConvBertModel,
    ElectraConfig,
    ElectraModel,
    EvalPrediction,
)

from bertkernels.data.conll import read_conll
from bertkernels.data.tags import SCHEMES, span_tags, spans
from bertkernels.data.tokenizer import SPECIAL_TOKENS, read_vocabulary, tokenizer_from_vocabulary
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.predict import predict
from bertkernels.training.predict_arguments import PredictArguments
from bertkernels.training.tag_metrics import span_metrics
from bertkernels.training.tasks.select import select_task
from bertkernels.training.tasks.task import Split
from bertkernels.training.training_arguments import FinetuneRunArguments

COLOURS, THINGS, REST = ("red", "green", "blue"), ("ball", "book", "chair"), ("the", "is", "one", "very", "seen")
PIECES = ("##s", "##ly")


def sentence(generator, words):
    """Words with (in iob2) spans of colours and of things, perhaps several words long, some in several tokens."""
    found = []
    while len(found) < words:
        kind, names = generator.choice((("COL", COLOURS), ("THING", THINGS), (None, REST), (None, REST)))
        size = generator.randint(1, 3) if kind else 1
        chosen = [generator.choice(names) + generator.choice(("", "", "s", "ly")) for _ in range(size)]
        if kind and found and found[-1][1][2:] == kind:
            continue  # what tells two spans in a row apart cannot be learned here
        prefixes = ["B", *"I" * (size - 1)]
        found += [(word, f"{prefix}-{kind}" if kind else "O") for word, prefix in zip(chosen, prefixes, strict=True)]
    return found


@pytest.fixture
def files(tmp_path):
    """Makes a folder of files with columns word, kind of word, tag, in a scheme; returns the flags that name it."""

    def make(scheme="iob2", train=160, dev=30, **flags):
        for name, count, seed in (("train.txt", train, 0), ("dev.txt", dev, 1)):
            generator = random.Random(seed)
            lines = []
            for _ in range(count):
                rows = sentence(generator, generator.randint(2, 14))
                tags = span_tags(spans([tag for _, tag in rows]), len(rows), scheme)
                lines += [f"{word} W {tag}" for (word, _), tag in zip(rows, tags, strict=True)] + [""]
            (tmp_path / name).write_text("\n".join(lines) + "\n")
        return {"task_name": "chunk", "tagging_dir": str(tmp_path), **flags}

    return make


@pytest.fixture
def encoder(tmp_path):
    """Makes an encoder with random weights, ours or Hugging Face's, and its tokenizer; returns the folder."""
    words = [*SPECIAL_TOKENS, *COLOURS, *THINGS, *REST, *PIECES]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")

    def make(kind="ours"):
        sizes = {"vocab_size": len(words), "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        theirs = {"num_hidden_layers": 1}
        makers = {
            "ours": lambda: EncoderModel(
                EncoderConfig(**sizes, plan="2*(mixed ffn)", initializer_range=0.1, hidden_dropout_prob=0.0)
            ),
            "bert": lambda: BertModel(BertConfig(**sizes, **theirs)),
            "electra": lambda: ElectraModel(ElectraConfig(**sizes, **theirs, embedding_size=32)),
            "convbert": lambda: ConvBertModel(ConvBertConfig(**sizes, **theirs, embedding_size=32, pad_token_id=0)),
        }
        makers[kind]().save_pretrained(tmp_path / kind)
        tokenizer_from_vocabulary(read_vocabulary(tmp_path / "vocab.txt")).save_pretrained(tmp_path / kind)
        return str(tmp_path / kind)

    return make


@pytest.fixture
def run_arguments(tmp_path):
    def make(**changes):
        settings = {
            "max_steps": 1,
            "per_device_train_batch_size": 16,
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
        }
        return FinetuneRunArguments(output_dir=str(tmp_path / "run"), **settings | changes)

    return make


def oracle(task, split):
    """Outputs of a model that knows the labels."""
    width = max(map(len, split.features["input_ids"])) + 3
    logits = np.zeros((len(split.features), width, len(task.labels)), dtype=np.float32)
    for row, labels in enumerate(split.features["labels"]):
        for position, label in enumerate(labels):
            logits[row, position, max(label, 0)] = 1
    return EvalPrediction(predictions=logits, label_ids=None)


@pytest.mark.parametrize("scheme", ["bioes", "iob2"])
def test_it_learns_saves_and_reports(encoder, files, run_arguments, tmp_path, scheme, capsys):
    arguments = FinetuneArguments(model_name_or_path=encoder(), max_seq_length=20, tag_scheme=scheme, **files())
    result = finetune(arguments, run_arguments(max_steps=400, learning_rate=5e-3))
    assert f"COL, THING; {scheme}, files iob2" in capsys.readouterr().out
    assert result.main_metric == "f1" and result.metrics["eval_f1"] > 0.9
    assert result.metrics["eval_accuracy"] > result.metrics["eval_majority_accuracy"] + 0.3
    assert {"eval_precision", "eval_recall", "eval_loss"} <= set(result.metrics)
    assert result.metrics.items() <= json.loads((result.output_dir / "all_results.json").read_text()).items()

    model = AutoModelForTokenClassification.from_pretrained(result.output_dir)
    prefixes = "BIES" if scheme == "bioes" else "BI"
    assert list(model.config.id2label.values()) == [
        "O", *(f"{prefix}-{kind}" for kind in ("COL", "THING") for prefix in prefixes)
    ]  # fmt: skip

    # the predictions are the file with a column more, and say what the metrics say
    written = read_conll(result.output_dir / "dev_predictions.txt")
    given = read_conll(tmp_path / "dev.txt")
    assert [[row[:-1] for row in one.columns] for one in written.sentences] == [one.columns for one in given.sentences]
    found = span_metrics([spans(one.tags) for one in given.sentences], [spans(one.tags) for one in written.sentences])
    assert found["f1"] == result.metrics["eval_f1"]
    by_type = json.loads((result.output_dir / "dev_by_type.json").read_text())
    assert set(by_type) == {"COL", "THING"} and by_type["COL"]["support"] > 10


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("learned", ["bioes", "iob2"])
@pytest.mark.parametrize("length", [64, 8])
def test_what_is_learned_is_written_back(encoder, files, tmp_path, scheme, learned, length):
    """Whatever scheme files are in, and whether sentences are read whole or in windows."""
    task = select_task(FinetuneArguments(**files(scheme, train=20, dev=20, tag_scheme=learned)))
    rows = task.evaluation["dev"]
    split = Split(rows, task.encode(rows, AutoTokenizer.from_pretrained(encoder()), length, training=False))
    assert (len(split.features) > len(rows)) == (length == 8)
    assert task.metrics(split, oracle(task, split)) == {"accuracy": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    [path] = task.write_predictions(tmp_path, "dev", split, oracle(task, split))
    lines, wanted = path.read_text().splitlines(), (tmp_path / "dev.txt").read_text().splitlines()
    assert lines == [f"{line} {line.split()[-1]}" if line else "" for line in wanted]


@pytest.mark.parametrize("kind", ["bert", "electra", "convbert"])
def test_hugging_face_encoders(encoder, files, run_arguments, kind):
    metrics = finetune(FinetuneArguments(model_name_or_path=encoder(kind), **files()), run_arguments()).metrics
    assert {"eval_f1", "eval_loss"} <= set(metrics)


def test_batches_by_tokens(encoder, files, run_arguments):
    arguments = FinetuneArguments(model_name_or_path=encoder(), **files())
    assert "eval_f1" in finetune(arguments, run_arguments(max_steps=3, tokens_per_batch=200)).metrics


def test_plain_tags(encoder, files, run_arguments, tmp_path):
    flags = files() | {"task_name": "pos", "label_column_index": 1}
    result = finetune(FinetuneArguments(model_name_or_path=encoder(), **flags), run_arguments(max_steps=3))
    assert result.main_metric == "accuracy" and result.metrics["eval_accuracy"] == 1.0  # there is one kind of word
    assert "eval_f1" not in result.metrics and not (result.output_dir / "dev_by_type.json").exists()


def test_json_lines(encoder, run_arguments, tmp_path):
    rows = [{"tokens": ["the", "red", "ball"], "ner_tags": ["O", "B-COL", "O"]}] * 4
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = str(tmp_path / "a.jsonl")
    arguments = FinetuneArguments(model_name_or_path=encoder(), task_name="ner", train_file=path, validation_file=path)
    result = finetune(arguments, run_arguments())
    assert (result.output_dir / "dev_predictions.txt").read_text().startswith("the\tO\t")


def test_words_without_tags_are_predicted(encoder, files, run_arguments, tmp_path):
    trained = finetune(FinetuneArguments(model_name_or_path=encoder(), **files()), run_arguments(max_steps=20))
    plain = [line.rsplit(" ", 1)[0] for line in (tmp_path / "dev.txt").read_text().splitlines()]
    (tmp_path / "test.txt").write_text("\n".join(plain) + "\n")
    arguments = PredictArguments(
        model_name_or_path=str(trained.output_dir),
        task_name="chunk",
        test_file=str(tmp_path / "test.txt"),
        output_dir=str(tmp_path / "out"),
        use_cpu=True,
        disable_tqdm=True,
    )
    [path] = predict(arguments)
    assert path.name == "test_predictions.txt"
    evaluated = (trained.output_dir / "dev_predictions.txt").read_text().splitlines()
    assert any("B-" in row.rsplit(" ", 1)[-1] for row in evaluated)
    assert [line.split()[0::2] for line in path.read_text().splitlines()] == [row.split()[0::3] for row in evaluated]
    with pytest.raises(InputError, match="test_predictions.txt is there already"):
        predict(arguments)
    with pytest.raises(InputError, match="--task_name chunk needs --test_file"):
        predict(replace(arguments, test_file=None, overwrite_output_dir=True))


def test_tags_out_of_order_are_counted_and_named(files, tmp_path, caplog):
    flags = files(train=10, dev=2)
    with open(tmp_path / "dev.txt", "a") as file:
        file.write("the W O\nred W I-COL\nball W I-THING\n")
    select_task(FinetuneArguments(**flags))
    line = (tmp_path / "dev.txt").read_text().count("\n") - 1
    assert (
        f"2 tags are not as iob2 has them, the first at {tmp_path}/dev.txt, line {line} (I-COL after O)" in caplog.text
    )


def test_types_that_training_does_not_know(encoder, files, tmp_path, caplog):
    flags = files(train=10, dev=2)
    (tmp_path / "dev.txt").write_text("the W O\nred W B-NEW\nball W I-NEW\n")
    task = select_task(FinetuneArguments(**flags))
    assert "dev has tags that the training set does not have: NEW (2)" in caplog.text
    rows = task.evaluation["dev"]
    split = Split(rows, task.encode(rows, AutoTokenizer.from_pretrained(encoder()), 16, training=False))
    assert [label for label in split.features[0]["labels"] if label != -100] == [0]
    assert task.metrics(split, oracle(task, split))["recall"] == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tagging_dir": None}, "with --task_name chunk give one of --train_file, --tagging_dir and --dataset_name"),
        ({"glue_dir": "x"}, "with --task_name chunk give one of"),
        ({"validation_file": "x"}, "--validation_file goes with --train_file"),
        ({"tagging_dir": "nowhere"}, r"nowhere holds no train.txt and dev.txt \(or valid.txt\)"),
        ({"task_name": "MRPC", "glue_dir": "x"}, "--tagging_dir goes with --task_name chunk, ner, pos"),
        ({"task_name": "MRPC"}, "give one of --train_file"),
        ({"label_column_index": 3}, r"train.txt, line 1: no column 3 \(--label_column_index\) among 3"),
        ({"label_column_index": 1}, "train.txt, line 1: 'W' is no tag of a span.*--tag_scheme plain"),
    ],
)
def test_bad_input_is_one_sentence(encoder, files, run_arguments, tmp_path, changes, message):
    arguments = replace(FinetuneArguments(model_name_or_path=encoder(), **files()), **changes)
    with pytest.raises(InputError, match=message):
        finetune(arguments, run_arguments())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("task", "folder"), [("chunk", "conll2000"), ("ner", "wnut17")])
def test_real_files(encoder, run_arguments, data_dir, task, folder):
    arguments = FinetuneArguments(
        model_name_or_path=encoder(),
        task_name=task,
        tagging_dir=str(data_dir / "tagging" / folder),
        max_train_samples=16,
        max_eval_samples=16,
    )
    assert {"eval_f1", "eval_accuracy"} <= set(finetune(arguments, run_arguments()).metrics)
