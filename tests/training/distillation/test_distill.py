import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from bertkernels.errors import InputError
from bertkernels.models.convert.ours import load_ours
from bertkernels.training.distill import distill


def test_a_task(arguments, run_arguments, losses, capsys):
    result = distill(arguments(), run_arguments(max_steps=60))
    output = capsys.readouterr().out
    assert "states of blocks 1←2, 2←4; scores of blocks 1←2, 2←4; logits" in output
    log = losses(result.output_dir)
    names = {"embedding_loss", "hidden_loss", "attention_loss", "logits_loss"}
    assert names <= log[0].keys() and "label_loss" not in log[0]
    for entry in log:
        assert sum(entry[name] for name in names) == pytest.approx(entry["loss"], rel=1e-4)
    assert all(log[-1][name] < log[0][name] for name in names)
    assert {"eval_accuracy", "eval_loss"} <= result.metrics.keys()
    written = json.loads((result.output_dir / "all_results.json").read_text())
    assert written["main_metric"] == "accuracy"
    student = load_ours(result.output_dir)  # every weight, and no other
    assert student.config.plan == "2*(attention ffn)" and student.config.hidden_size == 16
    assert student.config.id2label == {0: "bad", 1: "good"}
    projection = load_file(result.output_dir / "distillation_projection.safetensors")
    assert {name: tuple(x.shape) for name, x in projection.items()} == {
        "layers.shared.weight": (32, 16),
        "layers.shared.bias": (32,),
    }


def test_resuming_is_exact(arguments, run_arguments, losses):
    whole = distill(arguments(), run_arguments("whole", save_steps=3, save_strategy="steps", max_steps=6))
    first = run_arguments("broken", save_steps=3, save_strategy="steps", max_steps=6)
    distill(arguments(), first)
    for path in Path(first.output_dir).glob("checkpoint-6"):
        path.rename(path.with_name("later"))
    again = run_arguments("broken", save_steps=3, save_strategy="steps", max_steps=6, resume_from_checkpoint="last")
    found = distill(arguments(), again)
    assert losses(found.output_dir) == losses(whole.output_dir)
    for name in ("model.safetensors", "distillation_projection.safetensors"):
        expected, weights = (load_file(folder / name) for folder in (whole.output_dir, found.output_dir))
        assert expected.keys() == weights.keys()
        assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_phases_go_on_from_each_other(arguments, run_arguments, losses):
    first = distill(arguments(logits_weight=0), run_arguments("intermediate", max_steps=20))
    flags = {"plan": None, "hidden_size": None, "intermediate_size": None}
    go_on = arguments(**flags, model_name_or_path=str(first.output_dir), logits_weight=0)
    second = distill(go_on, run_arguments("second", max_steps=2, learning_rate=1e-9))
    assert losses(second.output_dir)[0]["hidden_loss"] < 1.2 * losses(first.output_dir)[-1]["hidden_loss"]
    only = {"embedding_weight": 0, "hidden_weight": 0, "attention_weight": 0}
    last = distill(arguments(**flags, model_name_or_path=str(first.output_dir), **only), run_arguments("prediction"))
    assert losses(last.output_dir)[0].keys() >= {"logits_loss"}
    assert not (last.output_dir / "distillation_projection.safetensors").exists()


def test_hugging_faces_models_are_converted_and_labels_put_in_order(
    arguments, run_arguments, vocabulary, teacher, tmp_path
):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), **sizes, id2label={0: "good", 1: "bad"}, initializer_range=0.2)
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(teacher("theirs"))
    only = {"embedding_weight": 0, "hidden_weight": 0, "attention_weight": 0}
    folder = str(tmp_path / "theirs")
    result = distill(
        arguments(teacher_model_name_or_path=folder, **only), run_arguments(max_steps=150, learning_rate=3e-3)
    )
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ours = AutoModelForSequenceClassification.from_pretrained(result.output_dir).eval()
    batch = torch.randint(5, len(vocabulary), (40, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = theirs(batch).logits.softmax(-1), ours(batch).logits.softmax(-1)
    assert ours.config.id2label == {0: "bad", 1: "good"}
    assert (found - wanted.flip(-1)).abs().mean() < 0.5 * (found - wanted).abs().mean()


def test_a_teacher_on_the_hub(arguments, run_arguments, teacher, monkeypatch):
    folder, asked = teacher(), []

    def download(name, **_):
        asked.append(name)
        return folder

    monkeypatch.setattr("bertkernels.training.distillation.teacher.snapshot_download", download)
    distill(arguments(teacher_model_name_or_path="somebody/teacher"), run_arguments(max_steps=1))
    assert asked == ["somebody/teacher"]


def test_a_student_that_starts_as_the_teacher_has_nothing_to_learn(arguments, run_arguments, losses):
    same = {"plan": "4*(attention ffn)", "hidden_size": None, "intermediate_size": None, "init_from_teacher": "first"}
    folder = distill(arguments(**same), run_arguments(max_steps=1, logging_steps=1)).output_dir
    entry = losses(folder)[0]
    # but for the student's dropout
    assert entry["hidden_loss"] > 0
    without = arguments(**same)
    config = Path(without.teacher_model_name_or_path, "config.json")
    config.write_text(config.read_text().replace('dropout_prob": 0.1', 'dropout_prob": 0.0'))
    entry = losses(distill(without, run_arguments("without", max_steps=1, logging_steps=1)).output_dir)[0]
    assert entry["hidden_loss"] < 1e-10 and entry["attention_loss"] < 1e-10 and entry["embedding_loss"] < 1e-10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": "3*(attention ffn)"}, "4 blocks can't be divided evenly among the student's 3"),
        ({"num_attention_heads": 4}, "student's block 1 has 4 attention heads, the teacher's block 2 has 2"),
        ({"plan": None, "hidden_size": None, "intermediate_size": None}, "either that of --model_name_or_path or one"),
        ({"projection": "none"}, "student's hidden states have width 16, the teacher's 32"),
        ({"init_from_teacher": "mapped"}, "--init_from_teacher: embeddings.word_embeddings.weight is .13, 16., "),
        ({"hidden_weight": -1}, "--hidden_weight must be from 0"),
        ({"teacher_logits": "x"}, "ask nothing else of the teacher"),
        (
            {"prepared_dir": "x", "train_file": None, "validation_file": None, "label_weight": 1},
            "text, .* has no labels",
        ),
        (
            {"plan": "2*ffn", **dict.fromkeys(("hidden_weight", "embedding_weight", "logits_weight"), 0)},
            "no loss is left: no two mapped blocks have attention heads both",
        ),
        (dict.fromkeys(("hidden_weight", "embedding_weight", "logits_weight", "attention_weight"), 0), "all losses"),
    ],
)
def test_bad_input(arguments, run_arguments, changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        distill(arguments(**changes), run_arguments())
    assert not (tmp_path / "out").exists()


def test_teachers_of_another_task_or_vocabulary(arguments, run_arguments, teacher, vocabulary):
    other = teacher("other", id2label={0: "up", 1: "down"})
    with pytest.raises(InputError, match="teacher is of another task: the model predicts up, down"):
        distill(arguments(teacher_model_name_or_path=other), run_arguments())
    words = dict(zip(reversed(vocabulary), vocabulary.values(), strict=True))
    student = teacher("student", words=words)
    flags = {"plan": None, "hidden_size": None, "intermediate_size": None, "model_name_or_path": student}
    with pytest.raises(InputError, match="student has another vocabulary than the teacher"):
        distill(arguments(**flags), run_arguments())


def test_blocks_without_heads_are_left_out(arguments, run_arguments, losses, capsys):
    distill(arguments(plan="ffn (attention ffn)"), run_arguments(max_steps=2))
    assert "scores of blocks 2←4;" in capsys.readouterr().out


def test_the_best_evaluation_is_kept(arguments, run_arguments):
    labels = dict.fromkeys(("embedding_weight", "hidden_weight", "attention_weight", "logits_weight"), 0)
    run = run_arguments(max_steps=40, eval_strategy="steps", eval_steps=5)
    result = distill(arguments(best_on_dev=True, label_weight=1.0, **labels), run)
    scores = [entry["eval_accuracy"] for entry in result.log if "eval_accuracy" in entry][:8]
    assert len(set(scores)) > 1 and result.main_score == max(scores)
