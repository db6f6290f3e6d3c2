"""Fine-tuning on multiple choice, from files to predictions."""

import json
import random
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer, BertConfig, BertModel, ElectraConfig, ElectraModel

from bertkernels.data.tokenizer import SPECIAL_TOKENS, read_vocabulary, tokenizer_from_vocabulary
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.predict import predict
from bertkernels.training.predict_arguments import PredictArguments
from bertkernels.training.tasks.multiple_choice import ChoiceCollator
from bertkernels.training.training_arguments import FinetuneRunArguments

GOOD, BAD, REST = ("fast", "small", "kept"), ("slow", "large", "until"), ("the", "kernel", "is", "one")


@pytest.fixture
def files(tmp_path):
    """SWAG's files, whose right endings have a word that tells."""
    generator = random.Random(0)
    for name, count in (("train.csv", 120), ("val.csv", 40)):
        lines = ["sent1,sent2,ending0,ending1,ending2,label"]
        for _ in range(count):
            answer = generator.randrange(3)
            endings = [
                " ".join([generator.choice(GOOD if number == answer else BAD), *generator.choices(REST, k=number)])
                for number in range(3)
            ]
            lines.append(",".join(["the kernel", "one is", *endings, str(answer)]))
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    paths = {"train_file": str(tmp_path / "train.csv"), "validation_file": str(tmp_path / "val.csv")}
    return {"task_name": "swag", **paths}


@pytest.fixture
def encoder(tmp_path):
    words = [*SPECIAL_TOKENS, *GOOD, *BAD, *REST]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")

    def make(kind="ours"):
        sizes = {"vocab_size": len(words), "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        makers = {
            "ours": lambda: EncoderModel(EncoderConfig(**sizes, plan="mixed ffn", initializer_range=0.1)),
            "bert": lambda: BertModel(BertConfig(**sizes, num_hidden_layers=1)),
            "electra": lambda: ElectraModel(ElectraConfig(**sizes, num_hidden_layers=1, embedding_size=32)),
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
            "per_device_train_batch_size": 8,
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
        }
        return FinetuneRunArguments(output_dir=str(tmp_path / "run"), **settings | changes)

    return make


def test_it_learns_saves_and_reports(encoder, files, run_arguments, capsys):
    arguments = FinetuneArguments(model_name_or_path=encoder(), **files)
    result = finetune(arguments, run_arguments(max_steps=60, learning_rate=3e-3))
    assert "swag (one of 3)" in capsys.readouterr().out
    assert result.main_metric == "accuracy" and result.metrics["eval_accuracy"] > 0.95
    assert result.metrics["eval_majority_accuracy"] < 0.6
    model = AutoModelForMultipleChoice.from_pretrained(result.output_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(result.output_dir)
    found = tokenizer(["the kernel"] * 2, ["one is slow", "one is fast"], return_tensors="pt")
    with torch.no_grad():
        scores = model(**{name: values[None] for name, values in found.items()}).logits
    assert scores.shape == (1, 2) and scores.argmax() == 1
    lines = (result.output_dir / "dev_predictions.tsv").read_text().splitlines()
    assert lines[0] == "id\tanswer" and len(lines) == 41


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_hugging_face_encoders(encoder, files, run_arguments, kind):
    assert (
        "eval_accuracy"
        in finetune(FinetuneArguments(model_name_or_path=encoder(kind), **files), run_arguments()).metrics
    )


def test_batches_by_tokens(encoder, files, run_arguments):
    arguments = FinetuneArguments(model_name_or_path=encoder(), **files)
    assert "eval_accuracy" in finetune(arguments, run_arguments(max_steps=3, tokens_per_batch=200)).metrics


def test_race_and_predictions_without_answers(encoder, run_arguments, tmp_path):
    (tmp_path / "race" / "high").mkdir(parents=True)
    for number in range(4):
        content = {
            "article": "the kernel is one",
            "questions": ["is _ one", "the kernel"],
            "options": [[GOOD[0], BAD[0]], [BAD[1], GOOD[1]]],
            "answers": ["A", "B"],
            "id": f"high{number}.txt",
        }
        (tmp_path / "race" / "high" / f"{number}.txt").write_text(json.dumps(content))
    folder = str(tmp_path / "race")
    arguments = FinetuneArguments(
        model_name_or_path=encoder(), task_name="race", train_file=folder, validation_file=folder, max_seq_length=12
    )
    result = finetune(arguments, run_arguments(max_steps=30, learning_rate=3e-3))
    assert result.metrics["eval_accuracy"] == 1.0
    evaluated = (result.output_dir / "dev_predictions.tsv").read_text()
    assert evaluated.splitlines()[1:3] == ["high0.txt-0\tA", "high0.txt-1\tB"]

    for path in (tmp_path / "race" / "high").iterdir():
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in content.items() if key != "answers"}))
    arguments = PredictArguments(
        model_name_or_path=str(result.output_dir),
        task_name="race",
        test_file=folder,
        output_dir=str(tmp_path / "out"),
        max_seq_length=12,
        use_cpu=True,
        disable_tqdm=True,
    )
    [path] = predict(arguments)
    assert path.read_text() == evaluated


def test_batches(encoder):
    tokenizer = AutoTokenizer.from_pretrained(encoder())
    features = [
        {"input_ids": [[2, 5, 3], [2, 3]], "attention_mask": [[1] * 3, [1] * 2], "labels": 1},
        {"input_ids": [[2, 5, 6, 3], [2, 7, 3]], "attention_mask": [[1] * 4, [1] * 3], "labels": 0},
    ]
    batch = ChoiceCollator(tokenizer, 64, few_widths=False)(features)
    assert batch["input_ids"].tolist() == [[[2, 5, 3, 0], [2, 3, 0, 0]], [[2, 5, 6, 3], [2, 7, 3, 0]]]
    assert batch["attention_mask"].sum(-1).tolist() == [[3, 2], [4, 3]] and batch["labels"].tolist() == [1, 0]
    assert ChoiceCollator(tokenizer, 64, few_widths=True)(features)["input_ids"].shape == (2, 2, 32)
    assert ChoiceCollator(tokenizer, 50, few_widths=True)(features)["input_ids"].shape == (2, 2, 50)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_file": None, "validation_file": None}, "with --task_name swag give one of --train_file and"),
        ({"dataset_name": "x"}, "with --task_name swag give one of --train_file and --dataset_name"),
        ({"validation_file": "absent.csv"}, "absent.csv: No such file"),
    ],
)
def test_bad_input_is_one_sentence(encoder, files, run_arguments, tmp_path, changes, message):
    arguments = replace(FinetuneArguments(model_name_or_path=encoder(), **files), **changes)
    with pytest.raises(InputError, match=message):
        finetune(arguments, run_arguments())
    assert not (tmp_path / "run").exists()
