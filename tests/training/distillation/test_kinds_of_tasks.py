"""Distillation on questions, tags, choices, numbers and text."""

import json
import random
from pathlib import Path

import pytest
import torch

from bertkernels.data.prepare_text import PrepareArguments, prepare_text
from bertkernels.data.prepared.folder import open_prepared
from bertkernels.data.tokenizer import SPECIAL_TOKENS, read_vocabulary
from bertkernels.errors import InputError
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.models.multiple_choice import EncoderForMultipleChoice
from bertkernels.models.question_answering import EncoderForQuestionAnswering
from bertkernels.models.token_classification import EncoderForTokenClassification
from bertkernels.training.distill import distill
from bertkernels.training.distillation.teacher import match_labels
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.tasks.select import select_task

NO_FILES = {"train_file": None, "validation_file": None}
LOGITS = {"embedding_weight": 0, "hidden_weight": 0, "attention_weight": 0}


@pytest.fixture
def questions(tmp_path):
    """Makes a folder in SQuAD's form, of texts of different lengths; returns the flags that name it."""

    def make(version):
        generator = random.Random(0)
        paragraphs = []
        for number in range(24):
            words = generator.choices(["a", "row", "the", "kernel"], k=generator.randint(3, 20))
            place = generator.randrange(len(words))
            words.insert(place, "good")
            answers = [{"text": "good", "answer_start": len("".join(f"{word} " for word in words[:place]))}]
            impossible = version == "v2.0" and number % 3 == 0
            qa = {"id": f"q{number}", "question": "bad kernel", "answers": [] if impossible else answers}
            qas = [qa | ({"is_impossible": impossible} if version == "v2.0" else {})]
            paragraphs.append({"context": " ".join(words), "qas": qas})
        content = json.dumps({"version": version, "data": [{"title": "words", "paragraphs": paragraphs}]})
        for name in ("train", "dev"):
            (tmp_path / f"{name}-{version}.json").write_text(content)
        return {
            "task_name": "squad" if version == "v1.1" else "squad_v2",
            "squad_dir": str(tmp_path),
            "max_query_length": 8,
        }

    return make


@pytest.mark.parametrize(
    ("version", "head"),
    [("v1.1", {"qa_head": "joint"}), ("v2.0", {"qa_head": "joint", "answerable_classifier": True}), ("v2.0", {})],
)
def test_questions(arguments, run_arguments, teacher, questions, losses, version, head):
    folder = teacher("qa", EncoderForQuestionAnswering, **head)
    flags = {"teacher_model_name_or_path": folder, "max_seq_length": 48, **NO_FILES, **questions(version)}
    result = distill(arguments(**flags), run_arguments(max_steps=40))
    log = losses(result.output_dir)
    assert log[-1]["logits_loss"] < log[0]["logits_loss"] and log[-1]["hidden_loss"] < log[0]["hidden_loss"]
    assert "eval_f1" in result.metrics
    student = load_ours(result.output_dir).config
    assert (student.qa_head, student.answerable_classifier) == (
        head.get("qa_head", "plain"),
        head.get("answerable_classifier", False),
    )


def test_a_classifier_that_the_teacher_lacks(arguments, run_arguments, teacher, questions):
    folder = teacher("qa", EncoderForQuestionAnswering)
    flags = {"teacher_model_name_or_path": folder, "qa_head": "joint", **NO_FILES, **questions("v2.0")}
    with pytest.raises(InputError, match="student has a classifier of unanswerable questions, the teacher none"):
        distill(arguments(**flags, max_seq_length=48), run_arguments())


def test_tags(arguments, run_arguments, teacher, losses, tmp_path):
    generator = random.Random(0)
    for name in ("train.txt", "dev.txt"):
        sentences = []
        for _ in range(24):
            words = generator.choices(["good", "a", "row", "kernel"], k=generator.randint(2, 7))
            sentences.append("".join(f"{word} {'ADJ' if word == 'good' else 'X'}\n" for word in words))
        (tmp_path / name).write_text("\n".join(sentences))
    folder = teacher("tagger", EncoderForTokenClassification, id2label={0: "X", 1: "ADJ"})
    flags = {"teacher_model_name_or_path": folder, "task_name": "pos", "tagging_dir": str(tmp_path), **NO_FILES}
    result = distill(arguments(**flags, max_seq_length=32), run_arguments(max_steps=40))
    log = losses(result.output_dir)
    assert log[-1]["logits_loss"] < log[0]["logits_loss"]
    assert load_ours(result.output_dir).config.id2label == {0: "ADJ", 1: "X"}  # the task's order
    with pytest.raises(
        InputError, match="--teacher_logits keeps what is said of texts, questions and choices, not tags"
    ):
        distill(
            arguments(**flags, **LOGITS, max_seq_length=32, teacher_logits=str(tmp_path / "x")), run_arguments("kept")
        )
    assert not (tmp_path / "x").exists()


def test_choices(arguments, run_arguments, teacher, losses, tmp_path):
    lines = ["sent1,sent2,ending0,ending1,ending2,label"]
    lines += [f"the kernel,a row,{'good ' * (number % 3 + 1)},bad,fast slow,0" for number in range(24)]
    (tmp_path / "swag.csv").write_text("\n".join(lines) + "\n")
    folder = teacher("chooser", EncoderForMultipleChoice)
    flags = {"teacher_model_name_or_path": folder, "task_name": "swag", "train_file": str(tmp_path / "swag.csv")}
    result = distill(arguments(**flags, validation_file=flags["train_file"]), run_arguments(max_steps=40))
    log = losses(result.output_dir)
    assert log[-1]["logits_loss"] < log[0]["logits_loss"] and log[-1]["attention_loss"] < log[0]["attention_loss"]


@pytest.fixture
def numbers(tmp_path):
    lines = ["sentence\tscore", *(f"{'good ' * (number % 5)}row\t{number % 5}" for number in range(40))]
    (tmp_path / "numbers.tsv").write_text("\n".join(lines) + "\n")
    file = str(tmp_path / "numbers.tsv")
    return {"train_file": file, "validation_file": file, "task_type": "regression", "label_column": "score"}


def test_numbers(arguments, run_arguments, teacher, numbers, losses):
    folder = teacher("scorer", num_labels=1, id2label=None, problem_type="regression", label_scale=4.0)
    flags = {"teacher_model_name_or_path": folder, **numbers, **LOGITS}
    for target, scale in (("teacher", 1.0), ("teacher", 2.0), ("labels", 1.0)):
        result = distill(
            arguments(**flags, regression_target=target, label_scale=scale, label_weight=1.0),
            run_arguments(f"{target}{scale}", max_steps=1, logging_steps=1),
        )
        entry = losses(result.output_dir)[0]
        if target == "labels":
            assert entry["logits_loss"] == pytest.approx(entry["label_loss"], rel=1e-5)
        else:
            assert entry["logits_loss"] != pytest.approx(entry["label_loss"], rel=0.05)


def test_numbers_are_in_the_students_scale(arguments, teacher, numbers):
    folder = teacher("scorer", num_labels=1, id2label=None, problem_type="regression", label_scale=4.0)
    flags = arguments(teacher_model_name_or_path=folder, **numbers, label_scale=2.0)
    tokens = torch.tensor([[2, 5, 5, 8, 3], [2, 8, 8, 8, 3]])
    models = [load_ours(Path(folder)).eval() for _ in range(2)]
    match_labels(models[1], select_task(flags), flags.label_scale)
    with torch.no_grad():
        before, after = (model(tokens).logits for model in models)
    torch.testing.assert_close(2 * after, 4 * before)


@pytest.fixture
def prepared(tiny_text, tmp_path):
    """Examples of text, and an encoder of their vocabulary to learn from."""
    folder = tmp_path / "prepared"
    flags = {"vocab_size": 200, "max_seq_length": 32, "validation_share": 0.2, "num_workers": 1}
    prepare_text(PrepareArguments(train_file=[str(tiny_text)], output_dir=str(folder), **flags))
    return folder


@pytest.mark.parametrize("at_padding", [False, True])
def test_text(arguments, run_arguments, teacher, prepared, losses, rows, at_padding):
    words = open_prepared(prepared).tokenizer().get_vocab()
    folder = teacher("encoder", EncoderModel, words=words)
    flags = {"teacher_model_name_or_path": folder, "prepared_dir": str(prepared), **NO_FILES}
    run = run_arguments("general", max_steps=40, eval_strategy="steps", eval_steps=20)
    result = distill(arguments(**flags, losses_at_padding=at_padding), run)
    log = losses(result.output_dir)
    assert log[-1]["hidden_loss"] < log[0]["hidden_loss"] and "logits_loss" not in log[0]
    parts = ("eval_embedding_loss", "eval_hidden_loss", "eval_attention_loss")
    assert sum(result.metrics[name] for name in parts) == pytest.approx(result.metrics["eval_loss"], rel=1e-5)
    student = load_ours(result.output_dir)
    assert isinstance(student, EncoderModel)
    assert student.config.padding == ("reference" if at_padding else "exact")
    # fine-tuning starts from it
    tuned = finetune(FinetuneArguments(model_name_or_path=str(result.output_dir), **rows), run_arguments("tuned"))
    assert "eval_accuracy" in tuned.metrics
    with pytest.raises(InputError, match="another vocabulary than --prepared_dir"):
        distill(arguments(**flags | {"teacher_model_name_or_path": teacher("other")}), run_arguments("other_out"))


@pytest.mark.parametrize("kind", ["classes", "questions"])
def test_teacher_logits_are_kept_and_refused_when_stale(
    arguments, run_arguments, teacher, questions, losses, tmp_path, monkeypatch, kind
):
    flags, head = dict(LOGITS), {"qa_head": "joint", "answerable_classifier": True}
    if kind == "questions":
        flags |= {"teacher_model_name_or_path": teacher("qa", EncoderForQuestionAnswering, **head)}
        flags |= {**NO_FILES, **questions("v2.0"), "max_seq_length": 48}
    without = distill(arguments(**flags), run_arguments("without"))
    flags["teacher_logits"] = str(tmp_path / "logits")
    kept = distill(arguments(**flags), run_arguments("kept"))
    for entry, other in zip(losses(without.output_dir), losses(kept.output_dir), strict=True):
        assert other["logits_loss"] == pytest.approx(entry["logits_loss"], rel=1e-4)

    def asked(*_):
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr("bertkernels.training.distillation.model.ask", asked)
    monkeypatch.setattr("bertkernels.training.distillation.teacher_logits.ask", asked)
    again = distill(arguments(**flags), run_arguments("again"))
    assert losses(again.output_dir) == losses(kept.output_dir)
    with pytest.raises(InputError, match="logits is stale: it was made with other rows"):
        distill(arguments(**flags, max_train_samples=9), run_arguments("other_rows"))
    model = EncoderForSequenceClassification if kind == "classes" else EncoderForQuestionAnswering
    changes = head if kind == "questions" else {}
    flags["teacher_model_name_or_path"] = teacher("new", model, initializer_range=0.1, **changes)
    with pytest.raises(InputError, match="logits is stale: it was made with other teacher"):
        distill(arguments(**flags), run_arguments("other_teacher"))


def test_checkpointed_blocks_and_half_precision(arguments, run_arguments, losses):
    expected = losses(distill(arguments(), run_arguments("plain")).output_dir)
    checkpointed = run_arguments("checkpointed", gradient_checkpointing=True)
    found = losses(distill(arguments(), checkpointed).output_dir)
    for entry, other in zip(expected, found, strict=True):
        assert other["loss"] == pytest.approx(entry["loss"], rel=1e-4)
    half = distill(arguments(teacher_dtype="bfloat16"), run_arguments("half", bf16=True))
    assert losses(half.output_dir)[0]["loss"] == pytest.approx(expected[0]["loss"], rel=0.05)


def test_two_processes(teacher, rows, two_processes, losses, run_arguments, arguments, tmp_path):
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    flags = {"teacher_model_name_or_path": teacher(**dropout), "block_map": ["0", "2"], "logits_weight": 0}
    steps = {"max_steps": 6, "per_device_train_batch_size": 4, "dataloader_drop_last": True}
    one = distill(arguments(**flags), run_arguments("one", **steps, gradient_accumulation_steps=2))
    settings = {**flags, **rows, "plan": "2*(attention ffn)", "hidden_size": 16, "intermediate_size": 32, **steps}
    settings |= {"learning_rate": 1e-2, "logging_steps": 2, "save_strategy": "no", "output_dir": tmp_path / "two"}
    two_processes("distill", settings)
    expected, found = losses(one.output_dir), losses(tmp_path / "two")
    for entry, other in zip(expected, found, strict=True):
        for name in ("loss", "hidden_loss", "attention_loss", "embedding_loss", "grad_norm"):
            assert other[name] == pytest.approx(entry[name], rel=1e-4), name


def test_vocabulary_file(arguments, run_arguments, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "other"]) + "\n")
    assert len(read_vocabulary(tmp_path / "vocab.txt")) == 6
    with pytest.raises(InputError, match="another vocabulary than --vocab_file"):
        distill(arguments(vocab_file=str(tmp_path / "vocab.txt")), run_arguments())
