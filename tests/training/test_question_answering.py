"""Fine-tuning on questions, from files to answers."""

import gzip
import json
import random
from dataclasses import replace

import pytest
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    BertConfig,
    BertModel,
    ConvBertConfig,
    ConvBertModel,
    ElectraConfig,
    ElectraModel,
)

from bertkernels.data.tokenizer import SPECIAL_TOKENS, read_vocabulary, tokenizer_from_vocabulary
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.question_arguments import QuestionArguments
from bertkernels.training.tasks.question_answering import prediction_task
from bertkernels.training.tasks.task import Split
from bertkernels.training.training_arguments import FinetuneRunArguments

COLOURS = ("red", "green", "blue", "black", "white", "grey")
THINGS = ("ball", "book", "chair", "house", "lamp", "table")
REST = ("the", "is", "one", "very", "often", "seen")
WORDS = (*COLOURS, *THINGS, *REST, "which", "colour", "thing", "?")


def squad(count, seed, unanswerable):
    """SQuAD's form of which colour, or which thing, a text speaks of; every other text may not speak of any."""
    generator = random.Random(seed)
    paragraphs = []
    for number in range(count):
        kind, names = generator.choice((("colour", COLOURS), ("thing", THINGS)))
        words = generator.choices(REST, k=12) + [generator.choice(THINGS if kind == "colour" else COLOURS)]
        answers = []
        if not (unanswerable and number % 2):
            answers = [{"text": generator.choice(names)}]
            words.append(answers[0]["text"])
        generator.shuffle(words)
        for answer in answers:
            answer["answer_start"] = len("".join(f"{word} " for word in words[: words.index(answer["text"])]))
        qa = {"id": f"q{seed}-{number}", "question": f"which {kind} ?", "answers": answers}
        qas = [qa | ({"is_impossible": not answers} if unanswerable else {})]
        paragraphs.append({"context": " ".join(words), "qas": qas})
    return {"version": "x", "data": [{"title": "words", "paragraphs": paragraphs}]}


@pytest.fixture
def files(tmp_path):
    """Makes the files of a task; returns the flags that name them."""

    def make(unanswerable=False, train=400, dev=40):
        suffix = "v2.0" if unanswerable else "v1.1"
        for name, count, seed in (("train", train, 0), ("dev", dev, 1)):
            (tmp_path / f"{name}-{suffix}.json").write_text(json.dumps(squad(count, seed, unanswerable)))
        return {"task_name": "squad_v2" if unanswerable else "squad", "squad_dir": str(tmp_path)}

    return make


@pytest.fixture
def encoder(tmp_path):
    """Makes an encoder with random weights of ours or Hugging Face's, with its tokenizer; returns the folder."""
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, *WORDS]) + "\n")

    def make(kind):
        sizes = {"vocab_size": len(WORDS) + 5, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        theirs = {"num_hidden_layers": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        makers = {
            "ours": lambda: EncoderModel(
                EncoderConfig(
                    **sizes,
                    plan="2*(mixed ffn)",
                    hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0,
                    initializer_range=0.1,
                )
            ),
            "bert": lambda: BertModel(BertConfig(**sizes, **theirs)),
            "electra": lambda: ElectraModel(ElectraConfig(**sizes, **theirs, embedding_size=32)),
            "convbert": lambda: ConvBertModel(ConvBertConfig(**sizes, **theirs, embedding_size=32, pad_token_id=0)),
        }
        folder = tmp_path / kind
        makers[kind]().save_pretrained(folder)
        tokenizer_from_vocabulary(read_vocabulary(tmp_path / "vocab.txt")).save_pretrained(folder)
        return str(folder)

    return make


def run_arguments(folder, **changes):
    settings = {
        "max_steps": 2,
        "per_device_train_batch_size": 16,
        "learning_rate": 3e-3,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return FinetuneRunArguments(output_dir=str(folder), **settings | changes)


def flags(model, files, **changes):
    sizes = {"max_seq_length": 16, "max_query_length": 4, "doc_stride": 4, "max_answer_length": 3}
    return FinetuneArguments(model_name_or_path=model, **files, **sizes | changes)


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_the_joint_head_learns_to_answer(encoder, files, tmp_path):
    run = run_arguments(
        tmp_path / "run",
        max_steps=240,
        eval_strategy="steps",
        eval_steps=120,
        save_strategy="steps",
        save_steps=120,
        load_best_model_at_end=True,
        metric_for_best_model="f1",
    )
    result = finetune(flags(encoder("ours"), files()), run)
    assert result.metrics["eval_f1"] > 80 and result.metrics["eval_exact_match"] > 80
    assert result.metrics["eval_loss"] < 2
    during = [entry["eval_f1"] for entry in result.log if "eval_f1" in entry]
    assert result.metrics["eval_f1"] == max(during)
    assert result.main_metric == "f1"
    said = read(result.output_dir, "predictions.json")
    lists = read(result.output_dir, "nbest_predictions.json")
    assert set(said) == set(lists) == {f"q1-{number}" for number in range(40)}
    for question, answer in said.items():
        assert lists[question][0]["text"] == answer
        assert sum(candidate["probability"] for candidate in lists[question]) == pytest.approx(1)
        assert len({candidate["text"] for candidate in lists[question]}) == len(lists[question]) <= 20
    assert not (result.output_dir / "null_odds.json").exists()
    model = AutoModelForQuestionAnswering.from_pretrained(result.output_dir)
    assert model.config.qa_head == "joint" and not model.config.answerable_classifier

    # the same answers to the same questions without their answers
    content = squad(40, 1, unanswerable=False)
    for paragraph in content["data"][0]["paragraphs"]:
        for qa in paragraph["qas"]:
            del qa["answers"]
    (tmp_path / "test.json").write_text(json.dumps(content))
    arguments = QuestionArguments(max_query_length=4, doc_stride=4, max_answer_length=3)
    task = prediction_task("squad", tmp_path / "test.json", arguments)
    tokenizer = AutoTokenizer.from_pretrained(result.output_dir)
    split = Split(task.test["test"], task.encode(task.test["test"], tokenizer, 16, training=False))
    trainer = FinetuningTrainer(
        model=model,
        args=run_arguments(tmp_path / "predict"),
        task=task,
        evaluation={},
        data_collator=task.collator(tokenizer, 16, few_widths=False),
        processing_class=tokenizer,
    )
    written = task.write_predictions(tmp_path / "answers", "test", split, trainer.outputs(split))
    assert [path.name for path in written] == ["predictions.json", "nbest_predictions.json"]
    assert read(tmp_path / "answers", "predictions.json") == said


def test_unanswerable_questions(encoder, files, tmp_path):
    result = finetune(flags(encoder("ours"), files(unanswerable=True)), run_arguments(tmp_path / "run", max_steps=150))
    metrics = result.metrics
    assert metrics["eval_total"] == 40 and metrics["eval_HasAns_total"] == metrics["eval_NoAns_total"] == 20
    assert metrics["eval_unanswered_f1"] == 50
    assert metrics["eval_best_f1"] >= metrics["eval_f1"] and metrics["eval_best_f1"] > 75
    said, odds = read(result.output_dir, "predictions.json"), read(result.output_dir, "null_odds.json")
    lists = read(result.output_dir, "nbest_predictions.json")
    for question, answer in said.items():
        assert answer == ("" if odds[question] > 0 else lists[question][0]["text"])
    model = AutoModelForQuestionAnswering.from_pretrained(result.output_dir)
    assert model.config.answerable_classifier


@pytest.mark.parametrize("kind", ["ours", "bert", "electra", "convbert"])
@pytest.mark.parametrize("unanswerable", [False, True])
def test_plain_heads(encoder, files, tmp_path, kind, unanswerable):
    arguments = flags(encoder(kind), files(unanswerable, train=32, dev=10), qa_head="plain", max_train_samples=20)
    result = finetune(arguments, run_arguments(tmp_path / "run"))
    assert 0 <= result.metrics["eval_f1"] <= 100 and result.metrics["eval_loss"] > 0
    assert len(read(result.output_dir, "predictions.json")) == 10
    assert (result.output_dir / "null_odds.json").is_file() == unanswerable


def test_the_classifier_may_be_trained_for_every_task_as_in_the_original(encoder, files, tmp_path):
    arguments = flags(encoder("ours"), files(train=32, dev=10), answerable_classifier=True, original_answers=True)
    result = finetune(arguments, run_arguments(tmp_path / "run"))
    model = AutoModelForQuestionAnswering.from_pretrained(result.output_dir)
    assert model.config.answerable_classifier
    # a model that is fine-tuned keeps its head
    again = flags(str(result.output_dir), files(train=32, dev=10), max_eval_samples=5)
    more = finetune(again, run_arguments(tmp_path / "more"))
    assert AutoModelForQuestionAnswering.from_pretrained(more.output_dir).config.answerable_classifier
    assert len(read(more.output_dir, "predictions.json")) == 5


def test_mrqa(encoder, tmp_path):
    lines = [{"header": {"dataset": "colours", "split": "train"}}]
    for paragraph in squad(20, 0, unanswerable=False)["data"][0]["paragraphs"]:
        qa = paragraph["qas"][0]
        text, begin = qa["answers"][0]["text"], qa["answers"][0]["answer_start"]
        detected = [{"text": text, "char_spans": [[begin, begin + len(text) - 1]], "token_spans": [[0, 0]]}]
        question = {"qid": qa["id"], "question": qa["question"], "answers": [text], "detected_answers": detected}
        lines.append({"id": "", "context": paragraph["context"], "qas": [question]})
    path = tmp_path / "dev.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join(map(json.dumps, lines)))
    files = {"task_name": "mrqa", "train_file": str(path), "validation_file": str(path)}
    result = finetune(flags(encoder("ours"), files), run_arguments(tmp_path / "run"))
    assert {"eval_exact_match", "eval_f1"} <= set(result.metrics)
    assert len(read(result.output_dir, "predictions.json")) == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_file": "x.json"}, "give one of --train_file, --squad_dir and --dataset_name"),
        ({"squad_dir": "/nowhere"}, "/nowhere holds no train-v1.1.json"),
        ({"task_name": "mrqa"}, "--task_name mrqa takes its files by --train_file"),
        (
            {"task_name": "SST-2", "squad_dir": None, "train_file": "x.tsv"},
            "--glue_dir and --task_name go together, unless the task is one of squad",
        ),
        ({"task_name": None, "train_file": "x.tsv"}, "--squad_dir goes with --task_name squad"),
        ({"doc_stride": 0}, "--doc_stride must be at least 1"),
        ({"max_query_length": 30}, "leaves no room for text beside questions"),
        ({"task_name": "squad_v2"}, "holds no train-v2.0.json"),
    ],
)
def test_bad_flags_are_one_sentence(encoder, files, tmp_path, changes, message):
    arguments = replace(flags(encoder("ours"), files(train=4, dev=2)), **changes)
    with pytest.raises(InputError, match=message):
        finetune(arguments, run_arguments(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_heads_that_cannot_be(encoder, files, tmp_path):
    for changes in ({"qa_head": "joint"}, {"answerable_classifier": True}):
        with pytest.raises(InputError, match="needs an encoder of this package, not one of bert"):
            finetune(flags(encoder("bert"), files(train=4, dev=2), **changes), run_arguments(tmp_path / "run"))
    arguments = flags(encoder("ours"), files(True, train=4, dev=2), answerable_classifier=False)
    with pytest.raises(InputError, match="joint needs its --answerable_classifier"):
        finetune(arguments, run_arguments(tmp_path / "run"))
